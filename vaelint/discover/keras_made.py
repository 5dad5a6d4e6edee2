"""Keras models that a file makes at its top level, and neither fits nor holds in a class. Runs nothing, imports no torch."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

from vaelint.core.paths import relative
from vaelint.discover.sources import tree_of
from vaelint.discover.structure import imports_keras

_KINDS = frozenset({"Model", "Sequential", "Functional"})


def models_made(files: Sequence[Path]) -> list[str]:
    """The targets of some files that are models made there: those that are compiled, else those that are no part of another one."""
    return [f"{relative(str(file.resolve()))}:{name}" for file in files for name in _made_in(file)]


def _made_in(file: Path) -> list[str]:
    tree = tree_of(file)
    if tree is None or not imports_keras(tree):
        return []
    made = list(dict.fromkeys(_assigned(tree)))
    compiled = {n for call in _calls(tree) if (n := _receiver(call, "compile"))}
    parts = {n.id for call in _calls(tree) for given in (call.func, *call.args) for n in _names(given)}
    return [name for name in made if name in compiled] or [name for name in made if name not in parts]


def _assigned(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _last(node.value.func) in _KINDS:
            yield from (t.id for t in node.targets if isinstance(t, ast.Name))


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    return (n for n in ast.walk(tree) if isinstance(n, ast.Call))


def _last(called: ast.expr) -> str:
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


def _receiver(call: ast.Call, method: str) -> str:
    """The name on which a method is called."""
    return (
        call.func.value.id
        if _last(call.func) == method and isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name)
        else ""
    )


def _names(given: ast.expr) -> Iterator[ast.Name]:
    """The names that are called, or handed on, as they are or in a list."""
    if isinstance(given, ast.Name):
        yield given
    elif isinstance(given, ast.List | ast.Tuple):
        for part in given.elts:
            yield from _names(part)
