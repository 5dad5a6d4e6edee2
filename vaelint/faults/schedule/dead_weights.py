"""Weights of the KL that a function of the loss reads from its arguments and then does nothing with."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from vaelint.core.finding import Span
from vaelint.faults.schedule.schedule import WEIGHT
from vaelint.late import dataclass

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model
    from vaelint.source.written import SourceFile

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class DeadWeight:
    """A local name for a weight, the statement that reads it, from which argument, and the function."""

    name: str
    span: Span
    argument: str
    function: str


def dead_weights(model: Model) -> list[DeadWeight]:
    """Names of KL weights that are assigned from an argument in a function that puts the loss together, and read nowhere in it."""
    places = {s for t in model.terms for leaf in t.leaves for n in (leaf.node, *leaf.chain) for s in n.meta.get("stack") or ()}
    around = {(_innermost(model.source.file(place.file), place.line), place.file) for place in places}
    found: dict[Span, DeadWeight] = {}
    for function, file in around:
        for weight in _dead(function, file) if function is not None else []:
            found.setdefault(weight.span, weight)
    return sorted(found.values(), key=lambda w: (w.span.file, w.span.line))


def _innermost(file: SourceFile, line: int) -> _Function | None:
    return max((f for f in file.functions() if f.lineno <= line <= (f.end_lineno or 0)), key=lambda f: f.lineno, default=None)


def _dead(function: _Function, file: str) -> list[DeadWeight]:
    loaded = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    if loaded & {"locals", "eval", "exec"}:
        return []
    a = function.args
    arguments = {x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs, *(x for x in (a.vararg, a.kwarg) if x is not None))} - {"self"}
    found = []
    for statement in ast.walk(function):
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if len(targets) != 1 or not isinstance(targets[0], ast.Name) or not isinstance(statement, ast.Assign):
            continue
        name, argument = targets[0].id, _argument(statement.value, arguments)
        if argument and WEIGHT.match(name) and name not in loaded:
            end = (statement.end_col_offset or 0) + 1
            place = Span(file, statement.lineno, statement.col_offset + 1, statement.end_lineno, end)
            found.append(DeadWeight(name, place, argument, function.name))
    return found


def _argument(value: ast.expr, arguments: set[str]) -> str:
    """The argument that is read: `weight`, `kwargs["M_N"]`, `kwargs.get("M_N", 1)`; "" for anything else."""
    if isinstance(value, ast.Name):
        return value.id if value.id in arguments else ""
    key: ast.expr | None = None
    if isinstance(value, ast.Subscript) and isinstance(value.value, ast.Name) and value.value.id in arguments:
        key = value.slice
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in ("get", "pop") and value.args:
        holder = value.func.value
        key = value.args[0] if isinstance(holder, ast.Name) and holder.id in arguments else None
    return key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else ""
