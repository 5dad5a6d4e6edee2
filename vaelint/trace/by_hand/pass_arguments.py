"""What a backward pass is given, and what it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from vaelint.trace import torch_private


def keeps_graph(given: Mapping[str, Any]) -> bool:
    """Whether its arguments keep the graph for another pass."""
    return bool(given.get("retain_graph") or given.get("create_graph"))


def tensors_in(value: Any) -> list[torch.Tensor]:
    """The tensors of an argument that is one, or several."""
    return [value] if isinstance(value, torch.Tensor) else [t for t in value or () if isinstance(t, torch.Tensor)]


def of_function(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `Tensor.backward` as `torch.autograd.backward` calls them."""
    return {("grad_tensors" if k == "gradient" else k): v for k, v in given.items()}


def gradient_of(leaf: torch.Tensor) -> torch.Tensor | None:
    """A gradient as it is, read by nobody's code."""
    with torch_private.no_torch_function():
        return leaf.grad
