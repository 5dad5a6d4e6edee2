"""The memory behind a tensor, by which views and other handles of it are known to be one."""

from __future__ import annotations

import torch


def storage_of(tensor: torch.Tensor) -> int | None:
    """A number that two tensors share if they share memory; None for sparse and other layouts, which have no storage."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return None
