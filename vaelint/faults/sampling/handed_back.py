"""Where a function of the user's gives back the posterior's mean in the place of a draw: `return mu`, or `z = mu` before `return z`."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from torch import fx

from vaelint.core.finding import Span
from vaelint.faults.shapes.annotations import definition
from vaelint.record.record import FunctionCall, Record
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def handed_back(model: Model, mu: fx.Node, scale: fx.Node) -> Span | None:
    """The statement by which a function that is given mean and scale returns the mean itself, or one that makes both returns it twice.

    The innermost such function; None where there is none, as where the mean is decoded in the function that makes it, and where calls
    of functions are not known, as of an observed training.
    """
    try:
        record = model.with_calls
    except ReplayError:
        return None
    twins = _twins(model.record, record)
    if twins is None:
        return None
    wanted, other = twins[mu], {twins[n] for n in model.flow.descendants(scale)}
    for call in record.functions:  # in the order in which they returned: innermost first
        given, back = _parts(call.arguments), _parts(call.result)
        if (wanted in given and other & set(given) and back == [wanted]) or (wanted not in given and back.count(wanted) > 1):
            return _statement(model, call)
    return None


def _twins(record: Record, noted: Record) -> dict[fx.Node, fx.Node] | None:
    """The nodes of one record in another of the same step; None where they went different ways."""
    pairs = list(zip(record.nodes, noted.nodes, strict=False))
    alike = len(record.nodes) == len(noted.nodes) and all(a.op == b.op and str(a.target) == str(b.target) for a, b in pairs)
    return dict(pairs) if alike else None


def _parts(value: Any) -> list[fx.Node]:
    """The nodes in tuples, lists and dicts, as often as they stand there."""
    if isinstance(value, fx.Node):
        return [value]
    held = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return [n for part in held for n in _parts(part)]


def _statement(model: Model, call: FunctionCall) -> Span | None:
    """The `return` that was taken, or the assignment `z = mu` of a name that it returns."""
    file = model.source.file(call.file)
    returned, function = file.statement(call.left_at), definition(file, call)
    if not isinstance(returned, ast.Return) or function is None:
        return None
    names = {n.id for n in ast.walk(returned) if isinstance(n, ast.Name)}
    renamed = [
        s
        for s in ast.walk(function)
        if isinstance(s, ast.Assign)
        and s.lineno <= returned.lineno
        and isinstance(s.value, ast.Name | ast.Attribute)
        and any(isinstance(t, ast.Name) and t.id in names for t in s.targets)
    ]
    at = max(renamed, key=lambda s: s.lineno, default=returned)
    end = at.end_lineno or at.lineno
    return Span(call.file, at.lineno, file.column(at.lineno, at.col_offset), end, file.column(end, at.end_col_offset or 0))
