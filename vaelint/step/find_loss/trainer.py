"""What `self` is in the training code of a trainer class: an object with just the attributes that the code reads. Runs no user code."""

from __future__ import annotations

import ast
from collections.abc import Callable, Set

from vaelint.core.reach import ends
from vaelint.repository.objects import Unknown

_MODULES = ("LightningModule", "Module")
_LOGS = frozenset({"log", "log_dict", "print"})
_OF_LIGHTNING = frozenset({"current_epoch", "global_step", "device", "dtype", "trainer", "logger", "training"})
"""What a LightningModule has by itself."""

Literal = Callable[[str], str | None]
"""The value of an attribute, as text; None where it is not known."""


def stand_in(trainer: ast.ClassDef, read: Set[str], models: Set[str], value: Literal) -> list[str]:
    """Statements that make a `self` on which the training code runs. Raises Unknown with the attribute whose value is not to be known.

    Args:
        trainer: the class whose method trains.
        read: the attributes of `self` that the code reads.
        models: the expressions that hold the model, such as `self.net`.
        value: an attribute's value as text, None where nothing tells it.
    """
    methods = {n.name: n for n in trainer.body if isinstance(n, ast.FunctionDef)}
    made = [f"self = object.__new__({trainer.name})"]
    needed = _needed(read, methods)
    if any(ast.unparse(base).endswith("Module") for base in trainer.bases):
        made.append(f"next(b for b in {trainer.name}.__mro__ if b.__name__ in {_MODULES}).__init__(self)")
        made += [f"self.{name} = lambda *given, **named: None" for name in sorted(needed & _LOGS)]
        needed -= _LOGS | _OF_LIGHTNING
    for name in sorted(needed):
        text = "model" if f"self.{name}" in models else value(name)
        if text is None and name not in read:
            continue  # read by a method, on a way that need not be taken
        if text is None:
            raise Unknown(f"self.{name}")
        made.append(f"self.hparams.update(vars({text}))" if name == "hparams" else f"self.{name} = {text}")
    return made


def attributes_of_self(*nodes: ast.AST) -> set[str]:
    """`a` of each `self.a` that is read; a call of `self` itself is one of its `forward`."""
    parts = [part for node in nodes for part in ast.walk(node)]
    called = any(isinstance(p, ast.Call) and isinstance(p.func, ast.Name) and p.func.id == "self" for p in parts)
    return ({"forward"} if called else set()) | {
        p.attr
        for p in parts
        if isinstance(p, ast.Attribute) and isinstance(p.ctx, ast.Load) and isinstance(p.value, ast.Name) and p.value.id == "self"
    }


def _needed(read: Set[str], methods: dict[str, ast.FunctionDef]) -> set[str]:
    """The attributes that are no methods, with those that the methods read in turn."""
    return ends(read, lambda name: attributes_of_self(methods[name]) if name in methods else None)
