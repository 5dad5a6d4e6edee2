"""Notes which optimizers user code builds while a step runs, and over which parameters."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from vaelint.finding import Span
from vaelint.trace.spans import SpanFinder


@dataclass(frozen=True)
class Optimizer:
    """An optimizer that the step built."""

    name: str
    span: Span | None
    parameters: frozenset[int]  # ids
    made: torch.optim.Optimizer


@contextlib.contextmanager
def noting_optimizers(spans: SpanFinder, found: list[Optimizer]) -> Iterator[None]:
    """While the block runs, appends each optimizer that is constructed."""
    original = torch.optim.Optimizer.__init__

    def init(self: torch.optim.Optimizer, params: Any, defaults: dict[str, Any]) -> None:
        original(self, params, defaults)
        stack = spans.stack(sys._getframe(1), limit=1)
        covered = frozenset(id(p) for group in self.param_groups for p in group["params"])
        found.append(Optimizer(type(self).__name__, stack[0] if stack else None, covered, self))

    torch.optim.Optimizer.__init__ = init  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.optim.Optimizer.__init__ = original  # type: ignore[method-assign]
