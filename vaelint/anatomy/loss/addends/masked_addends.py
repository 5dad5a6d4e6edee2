"""What of an addend is neither a value nor a draw of the model: masks that say which entries count, and indices that pick rows."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import fx

from vaelint.core.reach import reachable
from vaelint.record import ops


def only_masks(addend: fx.Node, front: Collection[fx.Node], data: list[fx.Node]) -> bool:
    """Whether data say no more than which entries of a density count: `where(mask, log_prob, 0)`. `front`: the raw values behind."""
    inside = reachable([addend], lambda n: [] if n in front else ops.value_inputs(n))
    masks = {n.args[0] for n in inside if ops.op(n) == "where" and len(n.args) == 3 and _is_zero(n.args[2])}
    read = reachable([addend], lambda n: [] if n in front else [i for i in ops.value_inputs(n) if i not in masks])
    return bool(data) and bool(masks) and not read & set(data)


def _is_zero(value: object) -> bool:
    if isinstance(value, fx.Node):
        return ops.op(value) in ("zeros", "new_zeros", "zeros_like")
    return isinstance(value, int | float) and value == 0


def picks_rows(node: fx.Node) -> bool:
    """Whether what is drawn are whole numbers: which rows of the data a step sees."""
    val = node.meta.get("val")
    return isinstance(val, torch.Tensor) and not val.is_floating_point()
