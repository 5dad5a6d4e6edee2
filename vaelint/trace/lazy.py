"""Models whose layers learn their sizes from the first call (`nn.LazyLinear`, Keras' layers): that call comes before any record."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from vaelint.trace import keras_models, torch_private


def is_unsized(model: torch.nn.Module) -> bool:
    """Whether a parameter or buffer has no shape yet, or is not there before the first call."""
    return any(is_lazy(t) for m in model.modules() for t in _held(m)) or keras_models.is_unbuilt(model)


def give_sizes(model: torch.nn.Module, step: Any, inputs: Mapping[str, torch.Tensor]) -> None:
    """Runs `step(model, inputs)` once, in evaluation mode, if the model needs it. Random states and modes are left as they were.

    What the call raises is not told here: the recorded run meets it again.
    """
    if not is_unsized(model):
        return
    modes = {m: m.training for m in model.modules()}
    model.eval()
    with torch.random.fork_rng(devices=[], device_type="cpu"), torch.no_grad(), contextlib.suppress(Exception):
        step(model, inputs)
    for module, training in modes.items():
        module.training = training
    keras_models.register(model)


def _held(module: torch.nn.Module) -> list[torch.Tensor]:
    return [tensor for _, tensor in torch_private.own_tensors(module)]
