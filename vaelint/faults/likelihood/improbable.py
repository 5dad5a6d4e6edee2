"""Distributions that are given probabilities outside of [0, 1]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from vaelint.record import ops
from vaelint.record.record import MadeDistribution
from vaelint.replay.ranges import free_low, value_range

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def improbable(model: Model) -> list[tuple[MadeDistribution, fx.Node]]:
    """Distributions whose probability, made of z, can leave [0, 1]: torch refuses it where it checks, and clips it where not.

    What torch divides by its sum need not be in [0, 1]; it comes in its stead where it can be negative.
    """
    found: list[tuple[MadeDistribution, fx.Node]] = []
    for made in model.record.distributions:
        if any(made.stack == other.stack for other, _ in found):
            continue  # one line, in a loop
        node = made.parameters.get("probs")
        if node is None or node not in model.decoded:
            continue
        whole = _made_shares_of(node)
        if whole is not None or made.family == "Categorical":
            reach = free_low(model, whole) if whole is not None else None
            if whole is not None and reach is not None and reach.low < -1e-9:
                found.append((made, whole))
            continue
        reach = value_range(model, node)
        if reach is not None and (reach.low < -1e-9 or reach.high > 1 + 1e-9):
            found.append((made, node))
    return found


def _made_shares_of(node: fx.Node) -> fx.Node | None:
    """The x of `x / x.sum(-1, keepdim=True)`, as it is or in another shape."""
    while ops.op(node) in ops.SHAPE | ops.CAST and len(inputs := ops.value_inputs(node)) == 1:
        node = inputs[0]
    if ops.op(node) not in ops.DIV or len(node.args) < 2:
        return None
    x, total = node.args[0], node.args[1]
    summed = isinstance(x, fx.Node) and isinstance(total, fx.Node) and ops.op(total) == "sum" and total.args[0] is x
    return x if summed else None  # type: ignore[return-value]
