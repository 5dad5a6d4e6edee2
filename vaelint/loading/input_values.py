"""Inputs as Python has them (tensors, arrays, shapes, a batch of a loader) as the texts that `--input` takes: shape, dtype, range."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from vaelint.core.errors import UsageError

_FORMS = 'input="32x784", (32, 784), a tensor, a batch such as next(iter(loader)), or a dict of these by name'


def input_texts(given: object, takes: Sequence[str] | None = None) -> tuple[str, ...]:
    """The texts for what was given: one input, several, or a dict by name.

    Args:
        takes: the parameters that get them, where known. A batch may hold more, such as labels: those are left out.

    Raises:
        UsageError: what is no input.
    """
    if isinstance(given, Mapping):
        known = {k: v for k, v in given.items() if takes is None or k in takes} or given
        return tuple(f"{name}={_text(value)}" for name, value in known.items())
    if isinstance(given, str) or _is_shape(given) or _is_tensor(given):
        return (_text(given),)
    if not isinstance(given, Sequence):
        raise UsageError(f"input={given!r:.40} is neither a shape nor a tensor", f"write {_FORMS}")
    many = [*given]
    if takes is not None and any(map(_is_tensor, many)):
        many = many[: max(len(takes), 1)]
    return tuple(_text(value) for value in many)


def parameters_taken(target: object, step: object) -> list[str] | None:
    """The names of the parameters that inputs go to: those of a step's function, else of `forward`; None where nobody knows."""
    if callable(step):
        return _positional(step)[1:]
    forward = getattr(target, "forward", None)
    if step is not None or not callable(forward) or isinstance(target, str):
        return None
    names = _positional(forward)
    return names[1:] if isinstance(target, type) else names


def _positional(call: Any) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(call).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return [str(n) for n in range(99)]
    return [p.name for p in parameters if p.kind in kinds]


def _is_shape(value: object) -> bool:
    return isinstance(value, tuple | list) and bool(value) and all(isinstance(n, int) and not isinstance(n, bool) for n in value)


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor) or hasattr(value, "__array__")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if _is_shape(value):
        return "x".join(map(str, value))
    if not _is_tensor(value):
        raise UsageError(f"an input is a {type(value).__name__}", f"write {_FORMS}")
    tensor = value if isinstance(value, torch.Tensor) else torch.as_tensor(value)
    shape = "x".join(map(str, tensor.shape)) or "()"
    return f"{shape}:{str(tensor.dtype).removeprefix('torch.')}{_range(tensor.detach())}"


def _range(tensor: torch.Tensor) -> str:
    """Between which values they lie: [0,1] for fractions, as there data do; empty where that says nothing."""
    if tensor.is_complex() or tensor.dtype is torch.bool or not tensor.numel() or tensor.device.type == "meta":
        return ""
    low, high = float(tensor.min()), float(tensor.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UsageError("an input holds values that are not finite", "pass one without nan and inf")
    if not tensor.is_floating_point():
        return f"[{int(low)},{int(high)}]"
    if low >= 0 and high <= 1:
        return "[0,1]"
    return f"[{low:.6g},{high:.6g}]" if low < high else ""
