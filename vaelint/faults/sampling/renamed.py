"""Where a value got another's name without being computed: an assignment `z = mu`.

No operation runs there, so that nothing of it is in the graph: it is read from the source, along the calls that led to a node.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import fx

from vaelint.core.finding import Span
from vaelint.record.record import route

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def renamed_argument(model: Model, node: fx.Node) -> Span | None:
    """The statement that gave an argument of a call on the way to a node another value's name; None where there is none."""
    for place in route(node):
        call = model.source.file(place.file).at(place)
        function = model.source.function(place)
        if not isinstance(call, ast.Call) or function is None:
            continue
        names = {n.id for a in call.args for n in ast.walk(a) if isinstance(n, ast.Name)}
        above = _last_assignment(function, names, place.line)
        found = above if above is not None and isinstance(above.value, ast.Name | ast.Attribute) else None
        if (found := found or _in_the_turn_before(function, names, place.line)) is not None:
            return _place(place.file, found)
    return None


def _in_the_turn_before(function: _Function, names: set[str], line: int) -> ast.Assign | None:
    """The assignment of one name to another that stands below a line in the loop around it."""
    loops = (n for n in ast.walk(function) if isinstance(n, ast.For | ast.While) and n.lineno <= line <= (n.end_lineno or 0))
    inside = [s for loop in loops for s in ast.walk(loop) if isinstance(s, ast.Assign) and s.lineno > line]
    named = [s for s in inside if isinstance(s.value, ast.Name) and any(n.id in names for t in s.targets for n in _targets(t))]
    return max(named, key=lambda s: s.lineno, default=None)


def renamed_value(model: Model, place: Span, position: int, keyword: str) -> Span | None:
    """The statement that gave an argument of the call at a place another value's name: `sigma = log_sigma` before `Normal(mu, sigma)`."""
    call, function = model.source.file(place.file).at(place), model.source.function(place)
    if not isinstance(call, ast.Call) or function is None:
        return None
    told = next((k.value for k in call.keywords if k.arg == keyword), call.args[position] if len(call.args) > position else None)
    last = _last_assignment(function, {told.id}, place.line) if isinstance(told, ast.Name) else None
    return _place(place.file, last) if last is not None and isinstance(last.value, ast.Name | ast.Attribute) else None


def _last_assignment(function: _Function, names: set[str], before: int) -> ast.Assign | None:
    """The last assignment above a line to one of some names, alone or beside others."""
    given = [
        s
        for s in ast.walk(function)
        if isinstance(s, ast.Assign) and s.lineno < before and any(n.id in names for t in s.targets for n in _targets(t))
    ]
    return max(given, key=lambda s: s.lineno, default=None)


def _targets(target: ast.expr) -> Iterator[ast.Name]:
    parts = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
    return (p for p in parts if isinstance(p, ast.Name))


def _place(file: str, statement: ast.stmt) -> Span:
    return Span(file, statement.lineno, statement.col_offset + 1, statement.end_lineno, (statement.end_col_offset or 0) + 1)
