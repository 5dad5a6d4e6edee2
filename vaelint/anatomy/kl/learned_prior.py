"""A KL to a prior whose variance the model computes: whether its formula holds whatever that variance is.

For p = N(n, r^2), dKL/dm = (m - n) / r^2 and dKL/dlog s = s^2 / r^2 - 1 (Kingma & Welling 2014, appendix B, generalised): the ratio of the
constant to the slope is r^2. Where r^2 is an exponential of the prior's head h, r^2 = exp(k h), the ratio at h = 0 is exactly 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

_FILLS = (-0.6, -0.2, 0.3, 0.7)


def slipped_factor(ratio_at: Callable[[float], float | None]) -> float | None:
    """The factor by which the log-determinant of the KL is too large, 1 for an exact KL; None where the head is no log of the variance.

    `ratio_at(h)` measures constant over slope with all heads of the prior at `h`.
    """
    ratios = [ratio_at(h) for h in _FILLS]
    if any(r is None or r <= 0 for r in ratios):
        return None
    logs = [math.log(r) for r in ratios if r is not None]
    slope = (logs[-1] - logs[0]) / (_FILLS[-1] - _FILLS[0])
    if not any(abs(slope - k) < 1e-4 for k in (1.0, 2.0)):  # a log-variance, a log-standard deviation
        return None
    offsets = [y - slope * h for y, h in zip(logs, _FILLS, strict=True)]
    if max(offsets) - min(offsets) > 1e-4:
        return None
    return math.exp(sum(offsets) / len(offsets))
