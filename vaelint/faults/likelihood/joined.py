"""Where a likelihood's error and its log term are added up."""

from __future__ import annotations

from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.anatomy.model import Model
from vaelint.record import ops


def joined(model: Model, fact: ReconFact, scale: fx.Node) -> fx.Node:
    """The sum of the error, divided or not, and what is made of the scale alone; the comparison with the data where there is none."""
    flow, meet = model.flow, fact.pair.meet
    error, spread = flow.descendants(meet), flow.descendants(scale)
    for node in flow.sorted(error & model.reaching_loss):
        sides = ops.value_inputs(node) if ops.op(node) in ops.ADD else []
        if any(n in error for n in sides) and any(n in spread and n not in error for n in sides):
            return node
    return meet
