"""Weights that are 0 at the first step, given the value that they come to later: a step is recorded as it is then."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

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
    """The arguments of a product, a 0 among them risen where that is wanted."""
    if not spans.risen or name not in _PRODUCTS or not any(isinstance(a, int | float) and plain(a) == 0 for a in args):
        return args
    place = next(iter(spans.stack(frame, limit=1)), None)
    later = spans.risen.get(place) if place is not None else None
    return args if later is None else tuple(later if isinstance(a, int | float) and plain(a) == 0 else a for a in args)
