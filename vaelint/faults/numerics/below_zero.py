"""Values under a logarithm or a root that layers drive below zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.intervals import Bounds
from vaelint.replay.ranges import free_low, raw_outputs

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

LOGS = {"log": 0.0, "log2": 0.0, "log10": 0.0, "log1p": -1.0, "logit": 0.0}
"""Operations that are not finite below an edge, and the edge."""

_CLEARLY = 1e-6


def in_loss(model: Model) -> list[fx.Node]:
    reach = model.reaching_loss
    return [
        n
        for n in model.record.graph.nodes
        if n.op == "call_function" and (not reach or n in reach) and (shape(n) or isinstance(n.meta.get("val"), torch.Tensor))
    ]


def driven_below(model: Model, operand: fx.Node, edge: float) -> Bounds | None:
    """The values that layers drive an operand to, where these fall below the edge; None where not, or where that cannot be told."""
    reach = free_low(model, operand) if operand in model.flow.learned else None
    return Bounds(reach.low, reach.high, True, reach.bound_by) if reach is not None and reach.low < edge - _CLEARLY else None


def negative_in_logs(model: Model, scale: fx.Node) -> bool:
    """Whether layers drive a scale below zero and a logarithm or root in the loss below zero with it: the square of a scale has no sign."""
    reach = free_low(model, scale)
    if reach is None or reach.low >= -_CLEARLY:
        return False
    read = [n for n in in_loss(model) if ops.op(n) in (*LOGS, "sqrt") and n in model.flow.descendants(scale)]
    inner = [(n.args[0], LOGS.get(ops.op(n), 0.0)) for n in read if isinstance(n.args[0], fx.Node)]
    driven = set(reach.raw)  # a logarithm of what the decoder makes of the draw is not the scale's
    own = [(n, edge) for n, edge in inner if driven & set(raw_outputs(n, model.flow))]
    return any(driven_below(model, n, edge) is not None for n, edge in own)
