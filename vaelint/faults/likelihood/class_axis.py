"""Softmaxes over another axis than the one along which the likelihood looks up its class."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.reconstruction.pairs import picks_class
from vaelint.faults.batch.mixing import batch_of
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_SOFTMAX = frozenset({"softmax", "log_softmax"})
_KEEPS = ops.SHAPE | ops.CAST | ops.SELECT | {"effect", "log", "clamp", "clip", "clamp_min", "add", "neg", "negative"}


@dataclass(frozen=True)
class OffClasses:
    """`reader` looks up a class along `axis` of `read`, whose values sum to one along another axis, by `softmax`."""

    softmax: fx.Node
    read: fx.Node
    reader: fx.Node
    axis: int


def off_classes(model: Model) -> list[OffClasses]:
    """VAE321: one for each softmax."""
    over_batch = {m.node for m in batch_of(model).softmaxed()}
    found: dict[fx.Node, OffClasses] = {}
    for reader in model.flow.sorted(model.reaching_loss):
        asked = _asks(model, reader)
        softmax = _behind(asked[0]) if asked is not None else None
        if asked is None or softmax is None or softmax in over_batch | found.keys():
            continue
        read, axis = asked
        try:
            if _constant_along(model, softmax, read, axis):
                found[softmax] = OffClasses(softmax, read, reader, axis)
        except ReplayError:
            continue
    return list(found.values())


def _asks(model: Model, node: fx.Node) -> tuple[fx.Node, int] | None:
    """The values that a node looks classes up in, and along which axis."""
    read = node.args[0] if node.args else None
    if not isinstance(read, fx.Node) or read not in model.flow.learned or not shape(read):
        return None
    rank = len(shape(read))
    if ops.op(node) == "nll_loss":
        return read, min(1, rank - 1)
    axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    return (read, axis % rank) if picks_class(node, model.flow) and isinstance(axis, int) else None


def _behind(node: fx.Node) -> fx.Node | None:
    """The softmax that a value comes out of, through what keeps its entries apart."""
    while ops.op(node) not in _SOFTMAX:
        tensors = [n for n in ops.value_inputs(node) if not n.meta.get("scalar")]
        if ops.op(node) not in _KEEPS or len(tensors) != 1:
            return None
        (node,) = tensors
    return node


def _constant_along(model: Model, softmax: fx.Node, read: fx.Node, axis: int) -> bool:
    """Whether values that differ along the axis of the softmax alone are all alike along the axis of the classes."""
    sizes = dict(model.record.sizes)
    size = model.replay.shape_of(softmax, sizes)
    along = softmax.kwargs.get("dim", softmax.args[1] if len(softmax.args) > 1 else None)
    if not isinstance(along, int) or math.prod(size) < 2:
        return False
    along %= len(size)
    count = size[along]
    steps = (torch.arange(count, dtype=torch.float64) + 1) / (count + 2)
    filled = steps.reshape([-1 if d == along else 1 for d in range(len(size))]).expand(size).clone()
    got = model.replay([read], {softmax: filled}, sizes)[read]
    return bool(got.shape[axis] > 1 and count > 1 and (got == got.narrow(axis, 0, 1)).all() and not (got == got.flatten()[0]).all())
