"""What reading a repository comes to: data, code that would have to be run, classes and their objects. Imports no torch."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path
from typing import Any

from vaelint.late import dataclass
from vaelint.repository.scopes import File, Function, Guards, Scope
from vaelint.source.target import Expression


class Unknown(Exception):
    """The code does not tell the value."""


@dataclass(frozen=True)
class Opened:
    path: Path


@dataclass(frozen=True)
class Definition:
    """A class or function of the user's, a module of the user's (`node` is None), or something of a library (`file` is None)."""

    file: File | None
    node: ast.AST | None
    name: str
    scope: Scope | None = None


@dataclass
class Instance:
    """An object of a user's class: its attributes are what the class and its constructor say."""

    definition: Definition
    code: Expression | None  # None where some argument is not known
    bound: dict[str, Any] = field(default_factory=dict)


def written(value: Any) -> tuple[str, tuple[tuple[str, str, str], ...]]:
    """A value as Python text, and the names in it."""
    if isinstance(value, Expression):
        return value.text, value.names
    if isinstance(value, argparse.Namespace):
        parts = {k: written(v) for k, v in vars(value).items()}
        names = [n for _, more in parts.values() for n in more]
        return f"Namespace({', '.join(f'{k}={t}' for k, (t, _) in parts.items())})", (("Namespace", "", "argparse.Namespace"), *names)
    if isinstance(value, list | tuple):
        items = [written(v) for v in value]
        text = ", ".join(t for t, _ in items)
        ends = "[]" if isinstance(value, list) else "()"
        return ends[0] + text + ("," if ends == "()" and len(items) == 1 else "") + ends[1], tuple(n for _, more in items for n in more)
    if isinstance(value, dict):
        pairs = [(repr(k), *written(v)) for k, v in value.items()]
        return "{" + ", ".join(f"{k}: {t}" for k, t, _ in pairs) + "}", tuple(n for _, _, more in pairs for n in more)
    if isinstance(value, Path):
        return repr(str(value)), ()
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value), ()
    raise Unknown


def holds_code(value: Any) -> bool:
    """Whether some part of a list, dict or Namespace is code."""
    parts = vars(value).values() if isinstance(value, argparse.Namespace) else value.values() if isinstance(value, dict) else value
    if not isinstance(value, argparse.Namespace | dict | list | tuple):
        return False
    return any(isinstance(p, Expression) or holds_code(p) for p in parts)


def last_name(node: ast.AST) -> str:
    """`VAE` of `models.VAE`, "" for what has no name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def defaults(function: Any) -> dict[str, ast.expr]:
    """The parameters of a function that have a default, with it."""
    positional = [*function.args.posonlyargs, *function.args.args]
    pairs = [*zip(positional[len(positional) - len(function.args.defaults) :], function.args.defaults, strict=True)]
    pairs += [(a, d) for a, d in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True) if d is not None]
    return {a.arg: d for a, d in pairs}


def has_parameter(function: Any, name: str) -> bool:
    a = function.args
    return any(p.arg == name for p in (*a.posonlyargs, *a.args, *a.kwonlyargs))


def returns_of(body: list[ast.stmt], guards: Guards) -> Iterator[tuple[Guards, ast.expr]]:
    for node in body:
        if isinstance(node, ast.Return) and node.value is not None:
            yield guards, node.value
        elif isinstance(node, ast.If):
            yield from returns_of(node.body, (*guards, (node.test, True)))
            yield from returns_of(node.orelse, (*guards, (node.test, False)))
        else:
            for block in ("body", "orelse", "finalbody"):
                if not isinstance(node, Function | ast.ClassDef):
                    yield from returns_of(getattr(node, block, []), guards)
