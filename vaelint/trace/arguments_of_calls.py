"""The arguments and results of calls of torch: what they hold, and what they ask for."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from vaelint.record.sizes import TracedFloat, TracedInt, plain
from vaelint.trace import torch_private

_FEW = 4096  # numbers of a constant that are kept

MUTATORS = {
    "__setitem__",
    "__iadd__",
    "__isub__",
    "__imul__",
    "__itruediv__",
    "__idiv__",
    "__ifloordiv__",
    "__imod__",
    "__ipow__",
    "__iand__",
    "__ior__",
    "__ixor__",
}


def mutates_given(name: str, kwargs: Any) -> bool:
    """Whether a function writes into what it is given."""
    return (name.endswith("_") and not name.endswith("__")) or name in MUTATORS or kwargs.get("out") is not None


def number(fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """The value of an inner expression, from those of its parts; NaN where a fake tensor's value is read."""
    if fn is torch.Tensor.item:
        return float("nan")
    return fn(*(plain(a.meta["val"]) if isinstance(a, fx.Node) else a for a in args))


def as_it_is(constant: torch.Tensor, name: str | None) -> dict[str, Any]:
    """What is noted of a tensor that was there before: its version, and of one that no network has, if it is small, its values: it may
    be changed in place."""
    few = name is None and constant.numel() <= _FEW
    return {"version": torch_private.version_of(constant), "was": constant.detach().clone() if few else None}


def names_place(arguments: tuple[Any, ...]) -> bool:
    """Whether the arguments of `to` and its kin say where; a type alone does not."""
    return not arguments or any(not isinstance(a, torch.dtype | bool) for a in arguments)


def in_place(kwargs: Any, args: Any) -> bool:
    """Whether the arguments of a call ask for a change in place."""
    return bool(kwargs.get("inplace")) or any(a is True for a in args)


def holds_tensor(value: Any) -> bool:
    """Whether a value is a tensor, or a list or dict with one inside."""
    if isinstance(value, torch.Tensor):
        return True
    if isinstance(value, list | tuple):
        return any(holds_tensor(v) for v in value)
    return isinstance(value, dict) and any(holds_tensor(v) for v in value.values())


def without_expressions(value: Any) -> Any:
    """Arguments as torch gets them: numbers without their expressions. Leaves everything else as it is."""
    if isinstance(value, TracedInt | TracedFloat):
        return plain(value)
    if type(value) in (tuple, list):
        return type(value)(without_expressions(v) for v in value)
    if isinstance(value, torch.Size):
        return torch.Size([plain(v) for v in value])
    if type(value) is dict:
        return {k: without_expressions(v) for k, v in value.items()}
    if isinstance(value, slice):
        return builtins.slice(plain(value.start), plain(value.stop), plain(value.step))
    return value
