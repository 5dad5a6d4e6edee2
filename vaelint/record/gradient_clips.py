"""Which frames are torch's functions that limit gradients."""

from __future__ import annotations

from types import FrameType

import torch

_CLIPS = torch.nn.utils.clip_grad_norm_.__code__.co_filename
_CLIP_FRAMES = 3  # a comprehension, the function, its decorator


def limits_gradients(frame: FrameType | None) -> float | None:
    """The norm to which torch's `clip_grad_norm_` limits the gradient that it reads: 0 for a relative of it, None for anything else."""
    found = None
    for _ in range(_CLIP_FRAMES):
        if frame is not None and frame.f_code.co_filename == _CLIPS:
            limit = frame.f_locals.get("max_norm")
            found = float(limit) if isinstance(limit, int | float) and frame.f_locals.get("norm_type") == 2.0 else found or 0.0
        frame = frame.f_back if frame is not None else None
    return found
