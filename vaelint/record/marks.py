"""Targets of recorded nodes that are no function of torch's: what the recorder writes where something else happened."""

from __future__ import annotations

from typing import Any

import torch


def effect(value: Any, *_: Any) -> Any:
    """The value, after the effect its other arguments stand for (a change in place through a view of it)."""
    return value


def custom_gradient(value: Any, *_: Any) -> Any:
    """The value, whose gradient goes to the other arguments: what a custom `autograd.Function` returned."""
    return value


def attribute(value: Any, name: str) -> Any:
    """A tensor reached through an attribute: `x.data`, `x.T`."""
    return getattr(value, name)


def share_of(*gradients: torch.Tensor) -> torch.Tensor:
    """How often a step counts a loss whose gradients these are, where it reckons that from gradients by itself."""
    return gradients[0].new_ones(())
