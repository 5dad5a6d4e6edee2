"""What a constructor can be asked for another value of: whole numbers, alone, in lists, and in configuration objects."""

from __future__ import annotations

import argparse
import ast
import copy
import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from vaelint.late import dataclass
from vaelint.loading.build import Loaded
from vaelint.loading.names import Means, meanings
from vaelint.step.reading import tree_of

_NO_SIZE = frozenset({Means.BATCH, Means.DEVICE, Means.WEIGHT, Means.DROPOUT})
_NO_NAME = frozenset({"seed", "random_seed", "epochs", "num_epochs", "n_epochs", "gpu", "gpus", "num_workers", "verbose"})


@dataclass(frozen=True)
class Knob:
    """One whole number that the constructor takes: `path` leads to it from the argument's name over indices, keys and attributes.

    A module's own constant (`ZDIMS = 20`, read by the model's code) is a knob as well, with `is_global` set.
    """

    path: tuple[str | int, ...]
    value: int
    is_global: bool = False

    @property
    def shown(self) -> str:
        """As a user writes it: `hidden_dims[4]`, `config.z_dim`."""
        first, *rest = self.path
        return str(first) + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in rest)


def knobs(loaded: Loaded, init: Mapping[str, object]) -> list[Knob]:
    """The whole numbers above 0 of a target's constructor, given or by default, then the constants of its module that its code reads."""
    found: list[Knob] = []
    for name, value in _values(loaded, init).items():
        if not _NO_SIZE & set(meanings(name)) and name.lower() not in _NO_NAME:
            found += [Knob((name, *path), number) for path, number in _numbers(value) if str(path[-1:]).lower() not in _NO_NAME]
    return found + [Knob((name,), value, True) for name, value in _constants(loaded)]


def changed(loaded: Loaded, init: Mapping[str, object], knob: Knob, value: int) -> dict[str, object]:
    """The arguments with one number changed; nothing else of `init` is touched."""
    values = _values(loaded, init)
    name = str(knob.path[0])
    return {**init, name: _replaced(values[name], knob.path[1:], value)}


def _values(loaded: Loaded, init: Mapping[str, object]) -> dict[str, object]:
    """What each parameter holds: as given, by default, or what the constructor puts in place of None."""
    values: dict[str, object] = dict(init)
    for name, parameter in loaded.signature.parameters.items():
        if name not in values and parameter.default is not parameter.empty:
            values[name] = parameter.default
        if values.get(name, 0) is None:
            values[name] = _fallback(loaded.obj, name)
    return values


def _fallback(obj: object, name: str) -> object:
    """The list that the constructor takes where `name` is None, as it stands in its source; None if it is not a literal."""
    tree = tree_of(obj.__init__ if inspect.isclass(obj) else obj)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.If) and ast.unparse(node.test) == f"{name} is None":
            for statement in node.body:
                if isinstance(statement, ast.Assign) and [ast.unparse(t) for t in statement.targets] == [name]:
                    try:
                        value: object = ast.literal_eval(statement.value)
                    except ValueError:
                        return None
                    return value
    return None


def _numbers(value: object, depth: int = 2) -> Iterator[tuple[tuple[str | int, ...], int]]:
    """The whole numbers above 0 within a value, with the way there."""
    if isinstance(value, bool):
        return
    if isinstance(value, int):
        if value > 0:
            yield (), int(value)
        return
    if depth == 0:
        return
    parts: list[tuple[str | int, Any]] = []
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        parts = list(enumerate(value))
    elif isinstance(value, argparse.Namespace):
        parts = list(vars(value).items())
    elif isinstance(value, Mapping):
        parts = [(k, v) for k, v in value.items() if isinstance(k, str)]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    for key, part in parts:
        if not (isinstance(key, str) and (_NO_SIZE & set(meanings(key)) or key.lower() in _NO_NAME)):
            yield from (((key, *path), number) for path, number in _numbers(part, depth - 1))


def _replaced(value: Any, path: tuple[str | int, ...], number: int) -> Any:
    if not path:
        return number
    key, rest = path[0], path[1:]
    if isinstance(value, tuple):
        return tuple(_replaced(part, rest, number) if i == key else part for i, part in enumerate(value))
    made = copy.copy(value)
    if isinstance(made, list | Mapping):
        made[key] = _replaced(value[key], rest, number)  # type: ignore[index]
    else:
        object.__setattr__(made, str(key), _replaced(getattr(value, str(key)), rest, number))
    return made


def _constants(loaded: Loaded) -> Iterator[tuple[str, int]]:
    """The whole numbers in capitals of the target's module that the methods of its class read."""
    names: set[str] = set()
    for base in loaded.obj.__mro__ if inspect.isclass(loaded.obj) else ():
        for value in vars(base).values():
            function = value.__func__ if isinstance(value, staticmethod | classmethod) else value
            if inspect.isfunction(function) and function.__globals__ is loaded.namespace:
                names.update(function.__code__.co_names)
    for name, value in loaded.namespace.items():
        if name in names and name.isupper() and type(value) is int and value > 1:
            means = meanings(name)
            if not _NO_SIZE & set(means) and name.lower() not in _NO_NAME:
                yield name, value
