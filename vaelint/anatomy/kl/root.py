"""Where a function of one head is 0: by secants between two signs, in a few steps where halving takes fifty."""

from __future__ import annotations

import math
from collections.abc import Callable

_STEPS = 60


def root(of: Callable[[float], float], low: float, high: float) -> float:
    """A place between `low` and `high` where a rising function is 0, or jumps over it.

    The Illinois method (Dowell and Jarratt 1971): the end that stays twice counts half, so both ends come near; halving where a value is
    not finite, or where secants take longer than halving would.

    Raises:
        what `of` raises.
    """
    below, above, last = of(low), of(high), 0
    for n in range(2 * _STEPS):
        slope = above - below
        at = low - below * (high - low) / slope if n < _STEPS and 0 < slope < math.inf else (low + high) / 2
        at = at if low < at < high else (low + high) / 2
        value = of(at)
        if value == 0 or high - low < 1e-13 * max(1.0, abs(at)):
            return at
        if value < 0:
            low, below, above = at, value, above / 2 if last < 0 else above
        else:
            high, above, below = at, value, below / 2 if last > 0 else below
        last = -1 if value < 0 else 1
        if abs(value) < 1e-14:
            return at
    return low


def off(scale: float, wanted: float) -> float:
    """How far a scale is from the wanted one, on the logarithmic axis on which most heads move it evenly."""
    return math.log(scale / wanted) if scale > 0 else -math.inf
