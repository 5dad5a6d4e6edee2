"""Values that a step computes for a branch that it does not take: `if labels is not None:`, another likelihood of the constructor."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from torch import fx

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def reader_in_another_branch(model: Model, values: Collection[fx.Node]) -> str:
    """The function that binds one of some values to a name and reads it only in branches that the step did not take; "" for none."""
    for function, line, idle in _functions_of(model, values):
        for name in _bound_at(function, line):
            reads = _reads_of(function, name, line)
            if reads and all(any(low <= read <= high for low, high in idle) for read in reads):
                return function.name
    return ""


def added_in_another_branch(model: Model, values: Collection[fx.Node]) -> str:
    """The function that has one of some values by name, and adds what it makes of it to a number in a branch that the step did not take."""
    for function, line, idle in _functions_of(model, values):
        names = _bound_at(function, line)
        kept = {t.id: low for low, t in _targets(function) if not any(a <= low <= b for a, b in idle)}
        for low, high in idle:
            reads = any(low <= read <= high for name in names for read in _lines_with(function, name))
            if reads and any(low <= at <= high and t.id in kept and t.id not in names for at, t in _targets(function)):
                return function.name
    return ""


def _functions_of(model: Model, values: Collection[fx.Node]) -> Iterator[tuple[_Function, int, list[tuple[int, int]]]]:
    """The functions that values were made in or came through, the line there, and the branches that no operation of the step is in."""
    ran: dict[str, set[int]] = {}
    for node in model.record.nodes:
        for place in node.meta.get("stack", ()):
            ran.setdefault(place.file, set()).add(place.line)
    for file, line in sorted({(place.file, place.line) for n in values for place in n.meta.get("stack", ())}):
        for function in model.source.file(file).functions():
            if function.lineno <= line <= (function.end_lineno or function.lineno):
                branches = [body for n in ast.walk(function) for body in _bodies(n)]
                yield function, line, [(low, high) for low, high in branches if not ran[file] & set(range(low, high + 1))]


def _bound_at(function: _Function, line: int) -> set[str]:
    return {n.id for s in _statements_at(function, line) for t in s.targets for n in ast.walk(t) if isinstance(n, ast.Name)}


def _reads_of(function: _Function, name: str, line: int) -> set[int]:
    """Where a name may be read that the statement at a line has bound: after it (`x = f(x)` reads what it was before), or anywhere in a
    function that goes round."""
    lines = _lines_with(function, name)
    turns = (n for n in ast.walk(function) if isinstance(n, ast.For | ast.AsyncFor | ast.While))
    if any(n.lineno <= line <= (n.end_lineno or n.lineno) for n in turns):
        return lines
    end = max(s.end_lineno or s.lineno for s in _statements_at(function, line))
    return {read for read in lines if read > end}


def _lines_with(function: _Function, name: str) -> set[int]:
    return {n.lineno for n in ast.walk(function) if isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Load)}


def _targets(function: _Function) -> Iterator[tuple[int, ast.Name]]:
    """The names that assignments give a value, and where."""
    for node in ast.walk(function):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []:
            if isinstance(target, ast.Name):
                yield target.lineno, target


def _statements_at(function: _Function, line: int) -> Iterator[ast.Assign]:
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and node.lineno <= line <= (node.end_lineno or node.lineno):
            yield node


def _bodies(node: ast.AST) -> Iterator[tuple[int, int]]:
    """The first and last lines of the branches of an `if`, and of one that is an expression over several lines."""
    if isinstance(node, ast.If):
        for body in (node.body, node.orelse):
            if body:
                yield body[0].lineno, body[-1].end_lineno or body[-1].lineno
    elif isinstance(node, ast.IfExp):
        for part in (node.body, node.orelse):
            yield part.lineno, part.end_lineno or part.lineno
