"""Where a value got another's name without being computed: an assignment `z = mu`, a sampler that ends in `return mu`.

No operation runs there, so that nothing of it is in the graph: it is read from the source, along the calls that led to a node.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import fx

from vaelint.finding import Span
from vaelint.graph import route

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
        last = _last_assignment(function, names, place.line)
        if last is not None and isinstance(last.value, ast.Name | ast.Attribute):
            return _place(place.file, last)
        inner = [a for a in call.args if isinstance(a, ast.Call)]
        made = [(last.value, _position(last, names))] if last is not None and isinstance(last.value, ast.Call) else []
        for maker, part in [*made, *((a, None) for a in inner)]:
            handed = _handed_back(model, place.file, maker, part)
            if handed is not None:
                return handed
    return None


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


def _position(assignment: ast.Assign, names: set[str]) -> int | None:
    """Which part of what is unpacked gets one of the names; None where the whole does."""
    target = assignment.targets[0]
    if not isinstance(target, ast.Tuple | ast.List):
        return None
    return next((i for i, t in enumerate(target.elts) if isinstance(t, ast.Name) and t.id in names), None)


def _handed_back(model: Model, file: str, call: ast.Call, part: int | None) -> Span | None:
    """Where the called function of the user's returns, in the place of what it makes, a value that it was given or returns as well."""
    for where, function in _called(model, file, call):
        found = _given_back(function, part)
        if found is not None:
            return _place(where, found)
    return None


def _called(model: Model, file: str, call: ast.Call) -> Iterator[tuple[str, _Function]]:
    """The functions that a call may mean, with their files: the `forward` of the module that ran there, else those of its name."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id if isinstance(call.func, ast.Name) else ""
    files = dict.fromkeys((file, *(p.file for n in model.flow.order for p in route(n))))
    column = model.source.file(file).column(call.lineno, call.col_offset)
    ran = {
        type(c.module).__name__
        for c in model.record.calls
        if c.span and (c.span.file, c.span.line, c.span.column) == (file, call.lineno, column)
    }
    for where in files:
        tree = model.source.file(where).tree
        for owner in ast.walk(tree):
            if isinstance(owner, ast.ClassDef) and owner.name in ran:
                yield from ((where, f) for f in owner.body if isinstance(f, _Function) and f.name == "forward")
        if not ran:
            yield from ((where, f) for f in model.source.file(where).functions() if f.name == name)


def _given_back(function: _Function, part: int | None) -> ast.stmt | None:
    """The statement by which a function returns one of its arguments untouched, or one value in two places; None where it does neither."""
    arguments = {a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)}
    for statement in ast.walk(function):
        value = statement.value if isinstance(statement, ast.Return) else None
        parts = value.elts if isinstance(value, ast.Tuple | ast.List) else []
        if part is not None:
            value = parts[part] if part < len(parts) else None
        if not isinstance(value, ast.Name) or not isinstance(statement, ast.Return):
            continue
        twice = sum(isinstance(p, ast.Name) and p.id == value.id for p in parts) > 1
        if value.id in arguments or (part is not None and twice):
            return statement
        named = [s for s in ast.walk(function) if isinstance(s, ast.Assign) and isinstance(s.value, ast.Name) and s.value.id in arguments]
        plain = [s for s in named if any(n.id == value.id for t in s.targets for n in _targets(t))]
        if plain:
            return max(plain, key=lambda s: s.lineno)
    return None


def _place(file: str, statement: ast.stmt) -> Span:
    return Span(file, statement.lineno, statement.col_offset + 1, statement.end_lineno, (statement.end_col_offset or 0) + 1)
