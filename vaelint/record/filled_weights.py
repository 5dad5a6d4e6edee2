"""Parameters that the step itself gives their first values, as a trainer's constructor does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx

from vaelint.record import ops

_FILLS = frozenset({"uniform_", "normal_", "trunc_normal_", "fill_", "zero_", "constant_", "ones_", "zeros_", "exponential_"})
_SAME = frozenset({"attribute", "data", "detach", "alias", "to", "requires_grad", "set"})
"""What a weight is as well: `weight.data`, the weight on another device."""


def fills_unread_weight(name: str, args: Sequence[Any], nodes: Mapping[int, fx.Node], names: Mapping[int, str]) -> bool:
    """Whether a call fills a parameter that nothing has read yet with numbers: it is a weight as before, and no draw."""
    if name not in _FILLS or not args or any(isinstance(a, torch.Tensor) for a in args[1:]) or not isinstance(args[0], torch.Tensor):
        return False
    node = nodes.get(id(args[0]))
    if node is None:
        return isinstance(args[0], torch.nn.Parameter) and id(args[0]) in names
    while ops.op(node) in _SAME and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node.op == "get_attr" and bool(node.meta.get("parameter")) and not _is_read(node)


def _is_read(node: fx.Node) -> bool:
    return any(ops.op(user) not in _SAME or _is_read(user) for user in node.users if ops.op(user) != "grad")
