"""Where user code asks for a GPU that is not there, it gets the CPU, and the place is noted."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from vaelint.finding import Span
from vaelint.trace.spans import SpanFinder


class OnCpu(TorchFunctionMode):
    """Turns `.cuda()`, `.to("cuda")` and `device="cuda"` into the CPU. `asked` holds where that was written."""

    def __init__(self, spans: SpanFinder | None = None) -> None:
        super().__init__()
        self._spans = spans
        self.asked: list[tuple[Span, str]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.cuda:
            self._note(".cuda()")
            return args[0]
        found = next((a for a in (*args[1:], *kwargs.values()) if _is_cuda(a)), None)
        first = args[0] if args and _is_cuda(args[0]) else None
        if found is not None or first is not None:
            self._note(str(found if found is not None else first))
            args = tuple(_cpu(a) for a in args)
            kwargs = {k: _cpu(v) for k, v in kwargs.items()}
        return func(*args, **kwargs)

    def _note(self, what: str) -> None:
        if self._spans is not None:
            stack = self._spans.stack(sys._getframe(2), limit=1)
            if stack:
                self.asked.append((stack[0], what))


def _is_cuda(value: Any) -> bool:
    if isinstance(value, torch.device):
        return value.type == "cuda"
    return isinstance(value, str) and (value == "cuda" or value.startswith("cuda:"))


def _cpu(value: Any) -> Any:
    return torch.device("cpu") if _is_cuda(value) else value
