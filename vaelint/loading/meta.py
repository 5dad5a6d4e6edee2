"""Models that were built on the meta device, which has sizes and no values: they get values, so that they can be run."""

from __future__ import annotations

import torch
from torch import nn

from vaelint.core.errors import TargetError
from vaelint.core.finding import Span
from vaelint.trace import torch_private

_SPREAD = 0.02  # of parameters that are no layer's: as small as such are where they are drawn


def with_values(model: nn.Module, where: Span) -> str:
    """Replaces what is on the meta device, layer by layer as torch initialises it; returns a note, "" if there was nothing.

    Raises:
        TargetError: a buffer of the user's own is there. What it held is known to nobody.
    """
    made: dict[int, torch.Tensor] = {}
    for path, module in model.named_modules():
        empty = {name: t for name, t in torch_private.own_tensors(module) if t.is_meta and not nn.parameter.is_lazy(t)}
        buffers = {name for name, t in empty.items() if not isinstance(t, nn.Parameter)}
        own = not type(module).__module__.startswith("torch.nn.")
        if buffers and own:
            name = ".".join(filter(None, (path, min(buffers))))
            help = "hand over the class, or build the model on a device that holds values"
            raise TargetError("VAE002", f"the buffer {name} of the model is on the meta device and has no values", help, where)
        fresh = any(id(t) not in made for t in empty.values())
        torch_private.replace_own_tensors(module, {name: made.setdefault(id(t), _drawn(t)) for name, t in empty.items()})
        if fresh and not own and hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return "the model is on the meta device: its parameters were initialised again" if made else ""


def _drawn(empty: torch.Tensor) -> torch.Tensor:
    value = torch.randn(empty.shape, device="cpu") * _SPREAD
    return nn.Parameter(value.to(empty.dtype), empty.requires_grad) if isinstance(empty, nn.Parameter) else value.to(empty.dtype)
