"""Notes which optimizers user code builds while a model is constructed or a step runs, and over which parameters."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from vaelint.core.finding import Span
from vaelint.trace.spans import SpanFinder


@dataclass(frozen=True)
class Optimizer:
    """An optimizer that the model's constructor or the step built."""

    name: str
    span: Span | None
    made: torch.optim.Optimizer
    in_step: bool

    @property
    def parameters(self) -> frozenset[int]:
        """The ids of those that it holds by now: groups may be added to it."""
        return frozenset(id(p) for group in self.made.param_groups for p in group["params"])


@contextlib.contextmanager
def noting_optimizers(spans: SpanFinder, found: list[Optimizer], *, in_step: bool) -> Iterator[None]:
    """While the block runs, appends each optimizer that is constructed."""
    original = torch.optim.Optimizer.__init__

    def init(self: torch.optim.Optimizer, params: Any, defaults: dict[str, Any]) -> None:
        original(self, params, defaults)
        stack = spans.stack(sys._getframe(1), limit=1)
        found.append(Optimizer(type(self).__name__, stack[0] if stack else None, self, in_step))

    torch.optim.Optimizer.__init__ = init  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.optim.Optimizer.__init__ = original  # type: ignore[method-assign]
