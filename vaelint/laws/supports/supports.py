"""Values that one element of the data may have: where the probabilities of a likelihood are added up."""

from __future__ import annotations

from collections.abc import Callable

import torch

from vaelint.late import dataclass

LINE = "the real line"
SPREAD = 0.03  # of log Z between states of the decoder: what sums on a grid leave is below 0.01


@dataclass(frozen=True)
class Support:
    """Values that the data may have, and what each counts in a sum that stands for the integral (log)."""

    words: str
    points: torch.Tensor
    log_mass: torch.Tensor
    ends: bool  # whether mass beyond the last points would be missed
    spread: float = SPREAD  # of log Z between states of the decoder, that is none
    step: float = 0.0  # between two values, where they are levels


def steps(words: str, low: float, high: float, count: int, spread: float = SPREAD) -> Support:
    """So many levels, evenly from `low` to `high`."""
    points = torch.linspace(low, high, count, dtype=torch.float64)
    return Support(words, points, torch.zeros(count, dtype=torch.float64), False, spread, (high - low) / (count - 1))


def _interval(words: str, low: float, high: float) -> Support:
    points = torch.linspace(low, high, 1201, dtype=torch.float64)[:-1] + (high - low) / 2400
    return Support(words, points, torch.full_like(points, (high - low) / 1200).log(), ends=False)


def _line(low: float = -1.0) -> Support:
    """The middle in even steps, then ever wider ones: heavy tails count too."""
    tail = torch.logspace(0, 4, 241, dtype=torch.float64) * 14
    edges = torch.cat([(-tail[1:]).flip(0) if low < 0 else tail[:0], torch.linspace(-14 if low < 0 else 0, 14, 1401).double(), tail[1:]])
    points = 0.5 * (edges[1:] + edges[:-1])
    words = LINE if low < 0 else "positive numbers"
    return Support(words, points, (edges[1:] - edges[:-1]).log(), ends=False)


def _counts(*, factorials: bool) -> Support:
    points = torch.arange(0, 1500, dtype=torch.float64)
    mass = -torch.lgamma(points + 1) if factorials else torch.zeros_like(points)
    return Support("counts", points, mass, ends=True)


SUPPORTS: tuple[Callable[[], Support], ...] = (
    _line,
    lambda: _interval("[0, 1]", 0.0, 1.0),
    lambda: steps("the steps k/255", 0.0, 1.0, 256),
    lambda: steps("0 and 1", 0.0, 1.0, 2),
    lambda: _counts(factorials=False),
    lambda: _counts(factorials=True),
    lambda: steps("256 steps from -1 to 1", -1.0, 1.0, 256),
    lambda: _interval("[-1, 1]", -1.0, 1.0),
    lambda: steps("the integers 0 to 255", 0.0, 255.0, 256),
    lambda: _line(0.0),
    lambda: steps("32 steps from 0 to 1", 0.0, 1.0, 32),
    lambda: steps("32 steps from -1 to 1", -1.0, 1.0, 32),
    lambda: _interval("[-1/2, 1/2]", -0.5, 0.5),
    lambda: steps("256 steps from -1/2 to 1/2", -0.5, 0.5, 256),
    lambda: steps("32 steps from -1/2 to 1/2", -0.5, 0.5, 32),
)
