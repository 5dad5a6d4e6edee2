"""Values of a record's nodes in one run on real tensors."""

from __future__ import annotations

import torch
from torch import fx

from vaelint.replay.per_model import per_model
from vaelint.replay.traced import SMALL, Traced
from vaelint.trace.align import align


@per_model
def _real_nodes(model: Traced) -> dict[fx.Node, fx.Node]:
    """Nodes of the record -> those of a run on real tensors; empty for a large model, and where that run raises."""
    model = model
    if model.record.rung == "real":
        return {n: n for n in model.record.nodes}
    if model.parameter_count > SMALL:
        return {}
    record = model.tracer.real(model.step)
    return align(model.record, record) if record.failure is None else {}


def real_value(model: Traced, node: fx.Node) -> torch.Tensor | None:
    """A node's value in one run on real tensors; None where that run takes another way."""
    own = _real_nodes(model).get(node)
    value = own.meta.get("val") if own is not None else None
    return value if isinstance(value, torch.Tensor) else None
