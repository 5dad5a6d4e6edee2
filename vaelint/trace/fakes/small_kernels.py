"""What an operation makes of small arguments: it is run on ones. Private torch interfaces, as in torch_private.py.

Torch's kernels for shapes are Python, and the first of them imports sympy and torch.distributed, a fifth of the time that torch itself
takes. The real kernel of a small operation takes microseconds and says the same: shape, strides and type, which no value moves.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch

from vaelint.trace.torch_private import FakeTensor

try:
    from torch.utils._python_dispatch import _disable_current_modes as no_modes
except ImportError:  # another torch: its kernels for shapes are asked
    no_modes = None  # type: ignore[assignment]

_LARGEST = 1 << 18  # elements of all arguments together
_PRODUCTS = 1 << 26  # multiplications
_KINDS = tuple(tag for name in ("pointwise", "reduction") if (tag := getattr(torch.Tag, name, None)) is not None)
_OTHERS = frozenset({"aten::mse_loss"})
_PRODUCT = {"aten::mm": 1, "aten::addmm": 2, "aten::bmm": 1}  # the place of the second factor
_DRAWN = frozenset({"aten::rand_like", "aten::randn_like"})
_LIKE = _DRAWN | {"aten::ones_like", "aten::zeros_like", "aten::empty_like"}


def made_of_ones(func: Any, args: Any, kwargs: Any) -> torch.Tensor | None:
    """What an operation makes of ones of the arguments' shapes, strides and types, on the CPU.

    None where it is none of the operations whose result no value moves, where it is large, and where it refuses.
    """
    if no_modes is None or (runs := _runs(func)) is None:
        return None
    tensors = [a for a in (*args, *kwargs.values()) if type(a) is FakeTensor]
    if not tensors or sum(t.numel() for t in tensors) > _LARGEST or _multiplications(func, args) > _PRODUCTS:
        return None
    given = {k: v for k, v in kwargs.items() if k != "device"}
    try:
        with no_modes(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = runs(*(_ones(a) for a in args), **{k: _ones(v) for k, v in given.items()})
            if type(made) is not torch.Tensor or (func._schema.name in _DRAWN and not made.is_floating_point()):
                return None
            return torch.empty_strided(made.shape, made.stride(), dtype=made.dtype, device="meta")
    except Exception:  # noqa: BLE001 - torch's own way says it in its own words
        return None


@functools.cache
def is_like(func: Any) -> bool:
    """Whether an operation makes a tensor like another, as `empty_like` does."""
    return func._schema.name in _LIKE and not any(a.name == "generator" for a in func._schema.arguments)


@functools.cache
def _runs(func: Any) -> Any:
    """What has to be run for an operation; None for all that is not known to depend on shapes alone."""
    name = func._schema.name
    if func.is_view or func._schema.is_mutable:
        return None
    if is_like(func):
        return torch.ops.aten.empty_like.default
    if torch.Tag.nondeterministic_seeded in func.tags:
        return None
    return func if name in _OTHERS or name in _PRODUCT or any(kind in func.tags for kind in _KINDS) else None


def _ones(value: Any) -> Any:
    """A fake tensor as a real one, of ones; anything else as it is."""
    if type(value) is not FakeTensor:
        return value
    shape, stride = value.shape, value.stride()
    room = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) if value.numel() else 0
    return torch.ones(room, dtype=value.dtype, device="cpu").as_strided(shape, stride)


def _multiplications(func: Any, args: Any) -> int:
    place = _PRODUCT.get(func._schema.name)
    return 0 if place is None else int(args[place - 1].numel()) * int(args[place].shape[-1])
