"""A draw that only evaluation makes: the question whether the model is in training is turned round."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from vaelint.core.finding import Span
from vaelint.faults.sampling.undrawn import undrawn_posterior
from vaelint.record.flow import analyse_flow
from vaelint.record.record import span

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def inverted_mode(model: Model) -> Span | None:
    """The test of `.training` beside a draw that evaluation mode makes; None where evaluation draws nothing, or nothing asks there.

    For a step that draws nothing in training.
    """
    if not model.record.reads_mode or undrawn_posterior(model) is None or model.evaluation.failure is not None:
        return None
    flow, in_training = analyse_flow(model.evaluation), {span(n) for n in model.flow.random}
    for node in flow.sorted(set(flow.random)):
        place = span(node) if span(node) not in in_training else None
        function = model.source.function(place) if place is not None else None
        if place is None or function is None:
            continue
        asked = [n.test for n in ast.walk(function) if isinstance(n, ast.If | ast.IfExp) and _asks_for_training(n.test)]
        if asked:
            return model.source.file(place.file).place(place.file, asked[0])
    return None


def _asks_for_training(test: ast.expr) -> bool:
    return any(isinstance(n, ast.Attribute) and n.attr == "training" for n in ast.walk(test))
