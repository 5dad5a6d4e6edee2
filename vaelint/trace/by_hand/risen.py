"""Weights that are 0 at the first step, given the value that they come to later: a step is recorded as it is then."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch

from vaelint.core.finding import Span
from vaelint.record.sizes import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vaelint.trace.spans import SpanFinder

_PRODUCTS = frozenset({"mul", "mul_", "multiply", "__mul__", "__rmul__", "__imul__"})


@contextmanager
def risen_to(spans: SpanFinder, weights: Mapping[Span, float]) -> Iterator[None]:
    """While the block runs, a product with a plain 0 at one of these places is one with its later value."""
    before, spans.risen = spans.risen, dict(weights)
    try:
        yield
    finally:
        spans.risen = before


def as_risen(spans: SpanFinder, name: str, args: tuple[Any, ...], frame: FrameType) -> tuple[Any, ...]:
    """The arguments of a product: what weighs, a plain 0 or one number that nothing has learned, risen where that is wanted."""
    if not spans.risen or name not in _PRODUCTS or len(args) != 2:
        return args
    weighs = [a for a in args if _is_nought(a)] or [a for a in args if isinstance(a, torch.Tensor) and a.dim() == 0 and not a.requires_grad]
    if len(weighs) != 1 or (place := next(iter(spans.stack(frame, limit=1)), None)) is None or place not in spans.risen:
        return args
    weighed = args[1] if weighs[0] is args[0] else args[0]
    return (weighed, spans.risen[place])  # a number comes second, whichever of them has the method


def _is_nought(value: object) -> bool:
    return isinstance(value, int | float) and bool(plain(value) == 0)  # of numpy, which answers in its own kind
