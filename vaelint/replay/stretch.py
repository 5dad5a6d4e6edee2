"""A record at sizes that the model was not made with: every number equal to a size of the model's own is taken for that size.

Where a slice holds tensors or literals of a fixed size (a buffer of the prior, the batch shape of a distribution, another network's
heads), it does not run at other sizes as it stands. Stretched, all of them follow. Two dimensions of one size cannot be told apart, and
are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from vaelint.record import ops

_ALL_SIZES = frozenset(
    {
        "view",
        "reshape",
        "expand",
        "broadcast_to",
        "zeros",
        "ones",
        "empty",
        "randn",
        "rand",
        "eye",
        "new_zeros",
        "new_ones",
        "new_empty",
        "new",
    }
)
_GROUPED_SIZES = frozenset({"unflatten", "full", "new_full", "normal", "split", "split_with_sizes"})


def size_map(known: Mapping[str, int], sizes: Mapping[str, int]) -> dict[int, int] | None:
    """The new size for each old one; None where one old size has two new ones. The batch is not stretched: it is told apart by two runs."""
    found: dict[int, int] = {}
    for symbol, old in known.items():
        new = sizes.get(symbol, old)
        if old == 1 or symbol == "B":
            continue
        if found.setdefault(old, new) != new:
            return None
    return {old: new for old, new in found.items() if old != new}


def stretch_value(value: torch.Tensor, by: Mapping[int, int]) -> torch.Tensor:
    """A constant with its dimensions of an old size brought to the new one, its entries repeated or cut."""
    for d, n in enumerate(value.shape):
        if n in by:
            value = value.index_select(d, torch.arange(by[n]) % n)
    return value


def stretch_literals(node: fx.Node, args: Any, by: Mapping[int, int]) -> Any:
    """The arguments of a call that takes sizes, with those replaced."""
    name = ops.op(node)
    if name in _ALL_SIZES:
        return tuple(_replaced(a, by) for a in args)
    if name in _GROUPED_SIZES:
        return tuple(_replaced(a, by) if isinstance(a, tuple | list) else a for a in args)
    return args


def _replaced(value: Any, by: Mapping[int, int]) -> Any:
    if isinstance(value, tuple | list):
        return (
            type(value)(_replaced(v, by) for v in value)
            if not isinstance(value, torch.Size)
            else torch.Size(_replaced(v, by) for v in value)
        )
    if isinstance(value, int) and not isinstance(value, bool):
        return by.get(value, value)
    return value
