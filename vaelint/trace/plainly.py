"""What only hides the calls that it wraps is run plainly: activation checkpointing, `torch.compile`, `torch.vmap`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from vaelint.trace import torch_private


@contextlib.contextmanager
def running_plainly() -> Iterator[None]:
    """Within the block the wrapped functions are called as they are, so that a recorder sees all that they do."""
    import torch.utils.checkpoint as checkpoint

    kept = checkpoint.checkpoint, torch.compile
    checkpoint.checkpoint, torch.compile = _straight, _uncompiled
    try:
        with torch_private.vmap_row_by_row():
            yield
    finally:
        checkpoint.checkpoint, torch.compile = kept


def _straight(
    function: Any,
    *args: Any,
    use_reentrant: Any = None,
    context_fn: Any = None,
    determinism_check: Any = None,
    debug: Any = None,
    preserve_rng_state: Any = None,
    **kwargs: Any,
) -> Any:
    return function(*args, **kwargs)


def _uncompiled(model: Any = None, **_: Any) -> Any:
    return model if model is not None else (lambda m: m)
