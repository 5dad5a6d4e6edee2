"""Losses whose names say nothing: what may be one is tried, and counts where what it leaves is measured to be an objective."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, islice
from typing import Any

import torch
from torch import nn

from vaelint.core.paths import class_file
from vaelint.late import dataclass
from vaelint.loading.build import Loaded
from vaelint.step.bind import RoleOf, sources_of
from vaelint.step.meaning import NOT_TRAINING
from vaelint.step.reading import called_names, returns_a_value, trains, tree_of
from vaelint.trace.keras_models import forward_of, of_keras


@dataclass(frozen=True)
class Way:
    """A call that may be the loss, what is called, and whether it gets all parts of the output."""

    code: str
    name: str
    gets_all: bool
    ready: bool  # whether the target is data that the model has made ready and returns


def ways(loaded: Loaded, model: nn.Module, prefix: str, names: Sequence[str], output: object, most: int) -> list[Way]:
    """Calls of functions and methods that nobody else calls, with the outputs in the order they have and the input at any place.

    The first `most` of them.
    """
    own = forward_of(model) if "forward" in dir(type(model)) else None
    found = [(expr, f) for expr, f in _functions(loaded, model) if own is None or f.__code__ is not getattr(own, "__code__", None)]
    called = set().union(*(called_names(f) for _, f in found), called_names(own) if own is not None else ())
    roots = [(expr, f) for expr, f in found if f.__name__ not in called]
    made = (
        Way(f"{prefix}; loss = {expr}({', '.join(given)})", expr, gets_all, ready)
        for expr, f in roots
        for given, gets_all, ready in _arguments(f, expr, names, output)
    )
    return list(islice(made, most))


def methods(model: nn.Module, wanted: int) -> list[str]:
    """The methods that take as many arguments as there are inputs and that no other method calls."""
    found = [(name, f) for name, f in _methods(model) if _required(f, skip=1) == wanted]
    called = {name: called_names(f) for name, f in _methods(model)}
    return [name for name, _ in found if not any(name in inner for other, inner in called.items() if other != name)]


def _functions(loaded: Loaded, model: nn.Module) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, value in loaded.namespace.items():
        if inspect.isfunction(value) and loaded.is_user(value.__code__.co_filename) and _may_be(name, value):
            yield name, value
        elif inspect.isclass(value) and issubclass(value, nn.Module) and not isinstance(model, value) and loaded.is_user(class_file(value)):
            forward = vars(value).get("forward")
            if inspect.isfunction(forward) and vars(value).get("__init__") is None and _may_be(name, forward):
                yield f"{name}()", forward
    for name, function in _methods(model):
        yield f"model.{name}", function


def _methods(model: nn.Module) -> Iterator[tuple[str, Callable[..., Any]]]:
    for base in type(model).__mro__:
        for name, value in (
            vars(base).items() if base not in nn.Module.__mro__ and base.__name__ != "LightningModule" and not of_keras(base) else ()
        ):
            if inspect.isfunction(value) and _may_be(name, value):
                yield name, value


def _may_be(name: str, function: Callable[..., Any]) -> bool:
    return not (name.startswith("__") or NOT_TRAINING.match(name) or trains(function)) and returns_a_value(tree_of(function))


def _required(function: Callable[..., Any], skip: int) -> int | None:
    """How many arguments must be given; None where that is open."""
    parameters = list(inspect.signature(function).parameters.values())[skip:]
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) or (p.kind is p.KEYWORD_ONLY and p.default is p.empty) for p in parameters):
        return None
    return sum(p.default is p.empty for p in parameters)


def _arguments(function: Callable[..., Any], expr: str, names: Sequence[str], output: object) -> Iterator[tuple[list[str], bool, bool]]:
    """Every way to give the outputs in their order, one of the inputs among them; then the output as one value.

    First all outputs as they come, where they are as many as are wanted and one is data that the model has made ready.
    """
    of_model = expr.endswith("()") or expr.startswith("model.")
    wanted = _required(function, skip=1 if of_model else 0)
    sources = [s for s in sources_of(output, _nothing, [], {}) if isinstance(s.value, torch.Tensor | torch.distributions.Distribution)]
    given = [s.expr for s in sources]
    if not wanted:
        return
    if len(given) == wanted and sum(isinstance(s.value, torch.Tensor) and not s.value.requires_grad for s in sources) == 1:
        yield given, True, True
    for left in combinations(given, wanted - 1):
        for place in range(1, wanted + 1):
            for name in names:
                at = place % wanted  # behind the first output is where the target is given most often
                yield [*left[:at], name, *left[at:]], len(left) == len(given), False
    if not isinstance(output, torch.Tensor) and wanted <= 2:
        whole = [["out"]] if wanted == 1 else [w for name in names for w in (["out", name], [name, "out"])]
        yield from ((w, True, False) for w in whole)


_nothing: RoleOf = lambda tensor: None  # noqa: E731
