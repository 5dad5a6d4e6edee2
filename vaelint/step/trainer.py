"""What `self` is in the training code of a trainer class: an object with just the attributes that the code reads. Runs no user code."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Set

Literal = Callable[[str], str | None]
"""A value for a name by what it means, as text: a weight, a counter, the device."""


def stand_in(trainer: ast.ClassDef, read: Set[str], models: Set[str], known: Set[str], literal: Literal) -> list[str] | None:
    """Statements that make a `self` on which the training code runs; None where an attribute's value is not to be known.

    Args:
        trainer: the class whose method trains.
        read: the attributes of `self` that the code reads.
        models: the expressions that hold the model, such as `self.net`.
        known: the names that the file's top level defines.
        literal: values for attributes that come from outside.
    """
    if any(ast.unparse(base) != "object" for base in trainer.bases):
        return None  # what a base class keeps is not to be seen here
    methods = {n.name: n for n in trainer.body if isinstance(n, ast.FunctionDef)}
    made = [f"self = object.__new__({trainer.name})"]
    for name in sorted(_needed(read, methods)):
        value = "model" if f"self.{name}" in models else _value(name, methods.get("__init__"), known) or literal(name)
        if value is None:
            return None
        made.append(f"self.{name} = {value}")
    return made


def attributes_of_self(*nodes: ast.AST) -> set[str]:
    """`a` of each `self.a` that is read."""
    parts = (part for node in nodes for part in ast.walk(node))
    return {
        p.attr
        for p in parts
        if isinstance(p, ast.Attribute) and isinstance(p.ctx, ast.Load) and isinstance(p.value, ast.Name) and p.value.id == "self"
    }


def _needed(read: Set[str], methods: dict[str, ast.FunctionDef]) -> set[str]:
    """The attributes that are no methods, with those that the methods read in turn."""
    needed, todo, seen = set[str](), set(read), set[str]()
    while todo:
        name = todo.pop()
        seen.add(name)
        if name in methods:
            todo |= attributes_of_self(methods[name]) - seen
        else:
            needed.add(name)
    return needed


def _value(name: str, init: ast.FunctionDef | None, known: Set[str]) -> str | None:
    """What the constructor gives an attribute, where that hangs on nothing but defaults and the file's own names."""
    if init is None:
        return None
    given = [n.value for n in ast.walk(init) if isinstance(n, ast.Assign) and any(ast.unparse(t) == f"self.{name}" for t in n.targets)]
    if len(given) != 1:
        return None
    defaults = {**dict(_defaults(init))}
    if isinstance(given[0], ast.Name) and given[0].id in defaults:
        return ast.unparse(defaults[given[0].id])
    free = {n.id for n in ast.walk(given[0]) if isinstance(n, ast.Name)}
    return ast.unparse(given[0]) if free <= (set(known) | {"torch"}) - {a.arg for a in init.args.args} else None


def _defaults(function: ast.FunctionDef) -> Iterator[tuple[str, ast.expr]]:
    """The parameters with a default that is written out."""
    positional = function.args.args
    pairs = [*zip(reversed(positional), reversed(function.args.defaults), strict=False)]
    pairs += [(a, d) for a, d in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True) if d is not None]
    yield from (
        (a.arg, d) for a, d in pairs if isinstance(d, ast.Constant | ast.UnaryOp) and not (isinstance(d, ast.Constant) and d.value is None)
    )
