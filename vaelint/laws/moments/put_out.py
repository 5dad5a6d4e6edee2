"""Values that a head of the posterior can have: what laws try must be what the encoder can put out."""

from __future__ import annotations

import torch
from torch import fx

from vaelint.record import ops


def put_out(head: fx.Node, numbers: torch.Tensor) -> torch.Tensor:
    """What a head makes of any numbers: shares that add up to one where it is a softmax, as for scales, else the numbers themselves."""
    if ops.op(head) != "softmax":
        return numbers
    axes = ops.dims_of(head)
    return numbers.softmax(axes[0] if axes else -1)
