"""What the cells of a notebook need of each other."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence

_OWN_WORK = frozenset({"backward", "step", "fit", "train", "load_state_dict", "apply"})
"""Calls that leave something behind in what they are called on, and bind no name."""


def needed_later(cell: Sequence[ast.stmt], line: int, later: Iterable[Sequence[ast.stmt]]) -> bool:
    """Whether a later cell reads a name that a cell would have bound had it not raised at `line`, or the rest of it would have trained.

    A name that a later cell binds itself before it reads it is not needed.
    """
    rest = [n for n in cell if (n.end_lineno or n.lineno) >= line]
    if any(_called(n) in _OWN_WORK or "train" in _called(n) for s in rest for n in ast.walk(s) if isinstance(n, ast.Call)):
        return True
    missing = {name for s in rest for name in _bound(s)}
    for other in later:
        for statement in other:
            if missing & _read(statement):
                return True
            missing -= _bound(statement)
    return False


def _called(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition(".")[2].lower()


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement at the top level binds."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(a.asname or a.name).split(".")[0] for a in statement.names}
    written = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    # `data["x"] = ...`, `net.rate = ...` change what a name holds
    return written | {
        root.id
        for n in ast.walk(statement)
        if isinstance(n, ast.Attribute | ast.Subscript) and isinstance(n.ctx, ast.Store)
        for root in ast.walk(n)
        if isinstance(root, ast.Name)
    }


def _read(statement: ast.stmt) -> set[str]:
    return {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
