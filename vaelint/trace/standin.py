"""Where user code asks for a GPU that is not there, it gets another device, and the place is noted."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from vaelint.finding import Span
from vaelint.trace.spans import SpanFinder


class InsteadOfCuda(TorchFunctionMode):
    """Turns `.cuda()`, `.to("cuda")` and `device="cuda"` into another device. `asked` holds where that was written."""

    def __init__(self, spans: SpanFinder | None = None, device: str = "cpu") -> None:
        super().__init__()
        self._spans = spans
        self._device = torch.device(device)
        self.asked: list[tuple[Span, str]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.cuda:
            self._note(".cuda()")
            return args[0] if self._device.type == "cpu" else args[0].to(self._device)
        found = next((a for a in (*args[1:], *kwargs.values()) if _is_cuda(a)), None)
        first = args[0] if args and _is_cuda(args[0]) else None
        if found is not None or first is not None:
            self._note(str(found if found is not None else first))
            args = tuple(self._instead(a) for a in args)
            kwargs = {k: self._instead(v) for k, v in kwargs.items()}
        return func(*args, **kwargs)

    def _instead(self, value: Any) -> Any:
        return self._device if _is_cuda(value) else value

    def _note(self, what: str) -> None:
        if self._spans is not None:
            stack = self._spans.stack(sys._getframe(2), limit=1)
            if stack:
                self.asked.append((stack[0], what))


def _is_cuda(value: Any) -> bool:
    if isinstance(value, torch.device):
        return value.type == "cuda"
    return isinstance(value, str) and (value == "cuda" or value.startswith("cuda:"))


_IS_CUDA: Any = getattr(torch.Tensor.is_cuda, "__get__")  # noqa: B009 - the type stubs call it a bool


class _SaysCuda(TorchFunctionMode):
    """Answers `tensor.is_cuda` as on a GPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return True if func is _IS_CUDA else func(*args, **(kwargs or {}))


@contextlib.contextmanager
def as_if_on_gpu() -> Iterator[None]:
    """Answers "yes" wherever user code asks whether it is on a GPU: `if x.is_cuda: eps = eps.cuda()` runs as it would there."""
    kept = torch.cuda.is_available, torch.cuda.device_count
    torch.cuda.is_available, torch.cuda.device_count = (lambda: True), (lambda: 1)
    try:
        with _SaysCuda():
            yield
    finally:
        torch.cuda.is_available, torch.cuda.device_count = kept
