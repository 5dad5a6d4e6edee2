"""Selections that are made twice of one value are one value: `h.chunk(2)` where z is drawn, and again where the KL is written."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import fx

from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.record.record import Record

_PARTS = frozenset({"getitem", "chunk", "split", "split_with_sizes", "tensor_split", "narrow", "select", "unbind"})
_WRITES = frozenset({"effect", "setitem"})


def join_selections(record: Record) -> None:
    """Lets whatever reads a part of a value read the first node that took this part. The later nodes stay, read by none.

    The same operation with the same operand and the same plain arguments has the same entries; not so a view that is written into.
    """
    first: dict[Any, fx.Node] = {}
    for node in record.graph.nodes:
        if node.op != "call_function" or ops.op(node) not in _PARTS or _written(node):
            continue
        key = (ops.op(node), key_of((*node.args, *node.kwargs.values())))  # h.chunk(2, 1) is torch.chunk(h, 2, dim=1)
        kept = first.setdefault(key, node)
        if kept is not node:
            node.replace_all_uses_with(kept)


def _written(node: fx.Node) -> bool:
    """Whether this view, or a part of it, is written into."""
    return any(ops.op(user) in _WRITES or (ops.op(user) in _PARTS and _written(user)) for user in node.users)


def key_of(value: Any, same: Mapping[fx.Node, fx.Node] = MappingProxyType({})) -> Any:
    """What two arguments must share to be the same. `same`: nodes that count as another one."""
    if isinstance(value, tuple | list):
        return tuple(key_of(v, same) for v in value)
    if isinstance(value, dict):
        return tuple((name, key_of(v, same)) for name, v in sorted(value.items()))
    if isinstance(value, slice):
        return ("slice", key_of((value.start, value.stop, value.step), same))
    return same.get(value, value) if isinstance(value, fx.Node) else (type(value).__name__, repr(value))


def picks_by_other_data(flow: Flow, node: fx.Node) -> bool:
    """Whether a mask that is made of another input says which values count: `y[x == -1]`, where nobody knows what it leaves."""
    parts = ops.value_inputs(node) if ops.op(node) in ("getitem", "masked_select") else []
    masks = [p for p in parts if isinstance(v := p.meta.get("val"), torch.Tensor) and v.dtype is torch.bool]
    inputs = [{n for n in flow.ancestors(*some) if n.op == "placeholder"} for some in (masks, [p for p in parts if p not in masks])]
    return bool(masks) and not inputs[0] <= inputs[1]
