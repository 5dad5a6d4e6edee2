"""The private torch interfaces vaelint stands on, all in one place, each with what to do when it moves.

Known to work on torch 2.11 to 2.15. Everything here degrades to the slower public way when an interface is gone.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import types
from collections.abc import Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)

FAKE_LIMITS: tuple[type[BaseException], ...] = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
"""What fake tensors raise where real ones would go on: never the user's fault."""

__all__ = ["FAKE_LIMITS", "FakeTensor", "FakeTensorMode", "fake_mode", "lean_dynamo", "to_fake"]


class DynamoMissing(Exception):
    """Something in torch wanted more of `torch._dynamo` than the placeholder has."""


class _Source:
    """Stands for the classes of `torch._dynamo.source`, which fake tensors only make and store."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args


def _placeholder() -> dict[str, types.ModuleType]:
    dynamo, config, source = (types.ModuleType(n) for n in ("torch._dynamo", "torch._dynamo.config", "torch._dynamo.source"))
    dynamo.__path__ = []
    dynamo.config, dynamo.source = config, source  # type: ignore[attr-defined]
    dynamo.graph_break = lambda *a, **k: None  # type: ignore[attr-defined]  # optimizers call it around their step
    dynamo.disable = lambda fn=None, *a, **k: fn  # type: ignore[attr-defined]
    config.fake_tensor_cache_enabled, config.fake_tensor_cache_crosscheck_enabled = True, False  # type: ignore[attr-defined]
    config._custom_ops_profile = None  # type: ignore[attr-defined]

    def answer(kind: str) -> Any:
        def attribute(name: str) -> Any:
            if name.startswith("__"):  # inspect and importlib ask for these and must see them absent
                raise AttributeError(name)
            if kind == "source":
                return _Source
            if kind == "config":
                return False  # unknown switches are off
            raise DynamoMissing(f"torch._dynamo.{name}")

        return attribute

    for module, kind in ((dynamo, "dynamo"), (config, "config"), (source, "source")):
        module.__getattr__ = answer(kind)  # type: ignore[method-assign]
    return {m.__name__: m for m in (dynamo, config, source)}


@contextlib.contextmanager
def lean_dynamo(enabled: bool = True) -> Iterator[None]:
    """Keeps `torch._dynamo` (0.8 s with sympy) from being imported by fake tensors with concrete sizes.

    They read three settings of it and wrap a few functions with `disable`. Only where nothing imported it before.
    Raises `DynamoMissing` out of the block if torch wants more; the caller then retries with `enabled=False`.
    """
    if not enabled or "torch._dynamo" in sys.modules:
        with _copyable_fakes():
            yield
        return
    stand_ins = _placeholder()
    sys.modules.update(stand_ins)
    had = "_dynamo" in vars(torch)
    torch._dynamo = stand_ins["torch._dynamo"]
    try:
        with _copyable_fakes():
            yield
    finally:
        for name, module in stand_ins.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
        if not had:
            del torch._dynamo


@contextlib.contextmanager
def _copyable_fakes() -> Iterator[None]:
    """`copy.deepcopy` of a fake tensor makes another one; torch's own way copies bytes that are not there and corrupts memory."""
    original = torch.Tensor.__deepcopy__

    def deepcopy(self: torch.Tensor, memo: dict[int, Any]) -> Any:
        if not isinstance(self, FakeTensor):
            return original(self, memo)  # type: ignore[no-untyped-call]
        if id(self) not in memo:
            new = self.detach().clone()
            is_parameter = getattr(self, "_is_param", False)
            memo[id(self)] = torch.nn.Parameter(new, self.requires_grad) if is_parameter else new.requires_grad_(self.requires_grad)
        return memo[id(self)]

    torch.Tensor.__deepcopy__ = deepcopy  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.__deepcopy__ = original  # type: ignore[method-assign]


def fake_mode() -> FakeTensorMode:
    """A mode in which new tensors have shape, dtype and device, and no storage; real tensors met are turned into fakes."""
    logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL + 1)  # it logs what it then raises
    return FakeTensorMode(allow_non_fake_inputs=True)


def to_fake(model: torch.nn.Module, mode: FakeTensorMode) -> torch.nn.Module:
    """Replaces the parameters and buffers of a real model by fakes, for constructors that fake tensors cannot run."""
    for module in model.modules():
        for name, param in module._parameters.items():
            if param is not None:
                module._parameters[name] = torch.nn.Parameter(mode.from_tensor(param.detach()), requires_grad=param.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = mode.from_tensor(buffer)
        if isinstance(module, torch.nn.RNNBase):  # it keeps its parameters in a list of its own as well
            module._flat_weights = [getattr(module, n, None) for n in module._flat_weights_names]
    return model
