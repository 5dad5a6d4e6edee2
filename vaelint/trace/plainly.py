"""What only hides the calls that it wraps is run plainly: activation checkpointing, `torch.compile`, `torch.vmap`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from vaelint import torch_private


@contextlib.contextmanager
def running_plainly() -> Iterator[None]:
    """Within the block the wrapped functions are called as they are, so that a recorder sees all that they do."""
    import torch.utils.checkpoint as checkpoint

    kept = checkpoint.checkpoint, torch.compile
    checkpoint.checkpoint, torch.compile = _straight, _uncompiled
    try:
        with torch_private.instead_of_vmap(_one_after_the_other):
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


def _one_after_the_other(function: Callable[..., Any], rows: list[tuple[Any, ...]], out_dims: Any, kwargs: Any) -> Any:
    """What `torch.vmap` gives: the function called for each row, its results stacked where they are asked for."""
    results = [tree_flatten(function(*row, **kwargs)) for row in rows]
    spec = results[0][1]
    dims = tree_flatten(out_dims)[0] if not isinstance(out_dims, int) else [out_dims] * len(results[0][0])
    parts = zip(*(flat for flat, _ in results), strict=True)
    return tree_unflatten([p[0] if d is None else torch.stack(p, d) for p, d in zip(parts, dims, strict=True)], spec)
