"""Arguments that weigh a KL, or are named so, of the function that puts the loss together, that no part of the loss reads."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from vaelint.core.finding import Label, Span
from vaelint.faults.kl.missing import loss_place
from vaelint.faults.schedule.kl_products import kl_products
from vaelint.faults.schedule.schedule import WEIGHT, UnusedWeight, applied_weight

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def idle_arguments(model: Model) -> list[UnusedWeight]:
    """Arguments with a number for a default that are read nowhere, or only by what does not reach the loss, such as a logged value."""
    place = loss_place(model)
    function = model.source.function(place) if place is not None else None
    if place is None or function is None or not any(f.scaling is not None and f.scaling.constant for f in model.kls):
        return []
    names = {n.id for n in ast.walk(function) if isinstance(n, ast.Name)}
    if names & {"locals", "eval", "exec", "vars"}:
        return []
    found = []
    products = kl_products(model)
    for argument, default in _defaults(function.args):
        number = default.value if isinstance(default, ast.Constant) else None
        by_name = argument.arg not in products
        if (by_name and not WEIGHT.match(argument.arg)) or not isinstance(number, int | float) or isinstance(number, bool):
            continue
        reads = [n for n in ast.walk(function) if isinstance(n, ast.Name) and n.id == argument.arg]
        if all(isinstance(n.ctx, ast.Load) and _reads_for_nothing(model, place.file, n) for n in reads):
            at = Span(place.file, argument.lineno, argument.col_offset + 1, argument.end_lineno, (argument.end_col_offset or 0) + 1)
            label = Label(at, "given here")
            found.append(UnusedWeight(argument.arg, float(number), label, applied_weight(model), stored=False, by_name=by_name))
    return found


def _defaults(a: ast.arguments) -> list[tuple[ast.arg, ast.expr | None]]:
    plain = [*a.posonlyargs, *a.args]
    return [*zip(plain[len(plain) - len(a.defaults) :], a.defaults, strict=True), *zip(a.kwonlyargs, a.kw_defaults, strict=True)]


def _reads_for_nothing(model: Model, file: str, read: ast.Name) -> bool:
    """Whether a name is read by operations that were recorded, and by none that the loss depends on."""
    around = [n for n in model.record.graph.nodes for s in n.meta.get("stack") or () if s.file == file and _holds(s, read)]
    return bool(around) and not any(n in model.reaching_loss for n in around)


def _holds(span: Span, read: ast.Name) -> bool:
    start, end = (span.line, span.column - 1), (span.end_line or span.line, (span.end_column or 0) - 1)
    return start <= (read.lineno, read.col_offset) and (read.end_lineno or 0, read.end_col_offset or 0) <= end
