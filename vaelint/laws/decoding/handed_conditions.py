"""Values of a condition that a decoder is handed and does not read: where they are handed over."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from vaelint.core.finding import Span
from vaelint.late import dataclass
from vaelint.laws.bench import Bench, Seat
from vaelint.record import ops
from vaelint.record.record import route

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class HandedOver:
    """A call on the decoder's way, and an argument of it that the called function does not mention."""

    call: Span
    parameter: Span  # where the function declares it
    name: str
    function: str
    given: ast.expr


def handed_over(bench: Bench) -> list[HandedOver]:
    """Arguments on the way to what the decoder's layers read that are given a value and never mentioned.

    A parameter whose name begins with an underscore is left unread on purpose, and so is one that another function of the same signature
    in the file reads: the two are called alike.
    """
    model = bench.model
    layers = [n for n in model.flow.sorted(model.decoded) if ops.uses_parameter(n)]
    calls = dict.fromkeys(pair for n in layers for pair in zip(route(n), route(n)[1:], strict=False))
    return [found for inner, outer in calls for found in _of_call(bench, inner, outer)]


def _of_call(bench: Bench, inner: Span, outer: Span) -> Iterator[HandedOver]:
    source = bench.model.source
    function = source.function(inner)
    call = next((n for n in source.file(outer.file).nodes if isinstance(n, ast.Call) and _is_at(n, outer)), None)
    if function is None or call is None or any(isinstance(a, ast.Starred) for a in call.args) or any(k.arg is None for k in call.keywords):
        return
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if function.name not in (called, "forward"):
        return
    declared = [*function.args.posonlyargs, *function.args.args]
    if declared and declared[0].arg in ("self", "cls"):
        declared = declared[1:]
    given = {
        **{a.arg: v for a, v in zip(declared, call.args, strict=False)},
        **{k.arg: k.value for k in call.keywords if k.arg is not None},
    }
    for argument in (*declared, *function.args.kwonlyargs):
        unread = argument.arg in given and not argument.arg.startswith("_") and not _mentions(function, argument.arg)
        if unread and not any(_mentions(f, argument.arg) for f in _alike(bench, inner.file, function)):
            place = Span(inner.file, argument.lineno, argument.col_offset + 1, argument.end_lineno, (argument.end_col_offset or 0) + 1)
            yield HandedOver(outer, place, argument.arg, function.name, given[argument.arg])


def _alike(bench: Bench, file: str, function: _Function) -> list[_Function]:
    """Other functions of the file with this name and these parameters."""
    mine = ast.unparse(function.args)
    return [
        f for f in bench.model.source.file(file).functions() if f is not function and (f.name, ast.unparse(f.args)) == (function.name, mine)
    ]


def _mentions(function: _Function, name: str) -> bool:
    names = {n.id for line in function.body for n in ast.walk(line) if isinstance(n, ast.Name)}
    return bool(names & {name, "locals", "eval", "exec", "vars", "super"})


def is_made_of(bench: Bench, seat: Seat, handed: HandedOver) -> bool:
    """Whether what is handed over is an input, or was computed of that input and no other."""
    flow, source = bench.model.flow, bench.model.source
    inputs = set(bench.model.record.inputs.values())
    alone = [n for n in flow.descendants(seat.node) if flow.ancestors(n) & inputs <= {seat.node}]
    names = {n.id for n in ast.walk(handed.given) if isinstance(n, ast.Name)}
    caller = source.function(handed.call)
    assigned = [n for n in ast.walk(caller) if isinstance(n, ast.Assign) and _targets(n) & names] if caller is not None else []
    places = [s for n in alone for s in route(n) if s.file == handed.call.file and caller is not None and source.function(s) is caller]
    if any(_holds(expression, place) for expression in (handed.given, *(a.value for a in assigned)) for place in places):
        return True
    readers = [s for n in flow.users.get(seat.node, ()) for s in route(n) if s in places]
    read = {
        x.id
        for n in source.file(handed.call.file).nodes
        if any(_is_at(n, s) for s in readers)
        for x in ast.walk(n)
        if isinstance(x, ast.Name)
    }
    return bool(isinstance(handed.given, ast.Name) and names & read and not assigned)


def _targets(statement: ast.Assign) -> set[str]:
    return {n.id for t in statement.targets for n in ast.walk(t) if isinstance(n, ast.Name)}


def _is_at(node: ast.AST, place: Span) -> bool:
    end = getattr(node, "end_lineno", None), (getattr(node, "end_col_offset", None) or 0) + 1
    return (getattr(node, "lineno", 0), getattr(node, "col_offset", -2) + 1, *end) == (
        place.line,
        place.column,
        place.end_line,
        place.end_column,
    )


def _holds(expression: ast.expr, place: Span) -> bool:
    start, end = (expression.lineno, expression.col_offset + 1), (expression.end_lineno or 0, (expression.end_col_offset or 0) + 1)
    return start <= (place.line, place.column) and (place.end_line or place.line, place.end_column or 0) <= end
