"""Where data lies beyond each sample's length."""

from __future__ import annotations

import torch
from torch import fx

from vaelint.laws.bench import Bench, Seat
from vaelint.record.record import shape


def axis_of(data: Seat, lengths: Seat) -> int | None:
    """The one axis of the data that has the size the lengths go up to."""
    having = [d for d, n in enumerate(shape(data.node)) if n == lengths.along and d != data.axis]
    return having[0] if len(having) == 1 else None


def beyond(bench: Bench, lengths: Seat, data: Seat, axis: int) -> torch.Tensor:
    """True where the data lies beyond its sample's length, in the data's shape."""
    val, counts = bench.value(data.node), bench.value(lengths.node)
    steps = torch.arange(val.shape[axis], device=val.device).view([-1 if d == axis else 1 for d in range(val.dim())])
    return (steps >= counts.view([-1 if d == data.axis else 1 for d in range(val.dim())])).expand(val.shape)


def has_steps(bench: Bench, lengths: Seat, data: Seat, axis: int, node: fx.Node) -> bool:
    """Whether a value may have the axis that the lengths count along: one of that size which is not known to be another size, such as a
    latent that is as wide as the longest sample is long."""
    own = bench.model.dims(data.node)[axis]
    texts = [t for t, n in zip(bench.model.dims(node)[1:], shape(node)[1:], strict=True) if n == lengths.along]
    return any(t == own or t.isdigit() for t in texts)
