"""Tensors of labels, one for each entry of a tensor or for all along an axis: which sample it belongs to."""

from __future__ import annotations

import torch
from torch import fx

from vaelint.record import ops
from vaelint.record.record import shape

FREE = -1
"""The label of what belongs to no sample."""

Labels = torch.Tensor


def counts_whole(node: fx.Node, size: int) -> bool:
    """Whether a value is 0, 1, 2, ... up to this size, in any layout: `torch.arange(size)[:, None]`."""
    while ops.op(node) in ops.SHAPE | {"getitem"} and node.args and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    plain = [a for a in node.args if not (isinstance(a, fx.Node) and a.meta.get("scalar"))]
    return ops.op(node) == "arange" and len(node.args) == 1 and plain in ([], [size]) and shape(node) == (size,)


def reduce_labels(labels: Labels, axis: int) -> tuple[Labels, bool]:
    """Labels after the entries along an axis came together, and whether they were of different samples."""
    if labels.shape[axis] == 1:
        return labels, False
    high = labels.amax(axis, keepdim=True)
    low = torch.where(labels < 0, torch.iinfo(torch.int32).max, labels).amin(axis, keepdim=True)
    return high, bool(((high >= 0) & (low < high)).any())


def free(rank: int) -> Labels:
    """Labels of a tensor of this rank that belongs to no sample."""
    return torch.full([1] * rank, FREE, dtype=torch.int32)


def aligned(labels: Labels, rank: int) -> Labels:
    """Labels with leading axes of one, as broadcasting lines shapes up."""
    return labels.reshape([1] * (rank - labels.dim()) + list(labels.shape)) if labels.dim() < rank else labels


def compact(labels: Labels) -> Labels:
    """The same labels with every axis along which they are constant brought down to one entry."""
    for axis in range(labels.dim()):
        if labels.shape[axis] > 1 and (labels.stride(axis) == 0 or bool((labels == labels.narrow(axis, 0, 1)).all())):
            labels = labels.narrow(axis, 0, 1)
    return labels.contiguous()


def filled(labels: Labels, node: fx.Node) -> Labels:
    """After a join, entries of no sample take the sample of the row they stand in."""
    dim = node.kwargs.get("dim", node.kwargs.get("axis", node.args[1] if len(node.args) > 1 else 0))
    if not isinstance(dim, int) or ops.op(node) in ("hstack", "vstack"):
        return labels
    row, conflict = reduce_labels(labels, dim % labels.dim())
    return labels if conflict else torch.where(labels < 0, row.expand_as(labels), labels)


def varying(labels: Labels) -> int:
    """Along how many axes labels change."""
    return sum(n > 1 for n in labels.shape)


def axis_of(labels: Labels) -> int:
    """The axis along which labels change, counted from the end."""
    return next((d - labels.dim() for d, n in enumerate(labels.shape) if n > 1), 0)
