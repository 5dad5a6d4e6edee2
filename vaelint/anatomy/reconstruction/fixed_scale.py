"""The scale of a likelihood that its author fixed, by the constant that normalises it.

A density of weight w and scale s adds w |e| / s + w log(2 s) (Laplace) or w e^2 / (2 s^2) + w log(s sqrt(2 pi)) (Gaussian) for an
error e: slope and constant together give both. A Gaussian may be written without the 2 pi. Where no constant stands beside the error,
none is known, but for a weight of pi: with s^2 = 1 / (2 pi) the constant of a Gaussian is 0, and pi is written for no other reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise, product

import torch
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.anatomy.loss.terms import Leaf
from vaelint.replay.measuring import EVENS, bases
from vaelint.replay.replay import Replay, ReplayError

_LARGEST, _SMALLEST = 1e3, 1e-3
"""Scales that are looked for."""


def nat_in_units(fact: ReconFact, leaves: list[Leaf], replay: Replay, symbols: Mapping[str, int]) -> float | None:
    """How many units of its kernel, |e| or e^2, make a nat of a normalised density; None where it is not normalised."""
    family = {"squared_error": _GAUSSIAN, "absolute_error": _LAPLACE}.get(fact.probe.kernel)
    whole = _alone(fact, leaves)
    if family is None or whole is None or fact.pair.target is None or fact.scaling is None:
        return None
    for base, even in product(bases(symbols), EVENS[:2]):
        try:
            constant, slope = _constant_and_slope(fact, whole, replay, base, even)
        except ReplayError:
            continue
        if not slope or not math.isfinite(constant / slope):
            continue  # every element is masked
        k = abs(fact.scaling.constant)
        if abs(constant) < 1e-9 * abs(slope):
            return 1 / math.pi if family is _GAUSSIAN and _is_short(k / math.pi) and not _is_short(k) else None
        units = [u for form in family for u in _roots(form, constant / slope) if _is_short(k * u)]
        return min(units, key=lambda u: abs(math.log(k * u)), default=None)  # of two that fit, the one of weight 1
    return None


def _alone(fact: ReconFact, leaves: list[Leaf]) -> fx.Node | None:
    """The outermost value that holds this reconstruction and constants, no other addend of the loss."""
    others = {n for leaf in leaves if leaf is not fact.pair.leaf and leaf.role != "constant" for n in leaf.chain}
    own = [n for n in fact.pair.leaf.chain if n not in others]
    return own[0] if own else None


def _constant_and_slope(fact: ReconFact, whole: fx.Node, replay: Replay, sizes: Mapping[str, int], even: float) -> tuple[float, float]:
    """What is left where there is no error, and what a unit of the kernel in every element adds to it."""
    assert fact.pair.target is not None
    t = torch.full(replay.shape_of(fact.pair.target, sizes), 0.4, dtype=torch.float64)
    like = replay.shape_of(fact.pair.recon, sizes)
    at = []
    for error in (0.0, 1.0):
        r = torch.full(like, 0.4 + error, dtype=torch.float64)
        given = {fact.pair.recon: r, fact.pair.target: t, **{n: torch.full(replay.shape_of(n, sizes), 0.5) for n in fact.pair.extra}}
        at.append(float(replay([whole], given, sizes, even=even)[whole].sum()))
    return at[0], at[1] - at[0]


_GAUSSIAN: tuple[Callable[[float], float], ...] = (
    lambda u: 0.5 * u * (math.log(math.pi) + math.log(u)),  # u = 2 s^2
    lambda u: 0.5 * u * math.log(u / 2),
)
_LAPLACE: tuple[Callable[[float], float], ...] = (lambda u: u * math.log(2 * u),)  # u = s
"""Constant over slope of a density, by the units of its kernel that a nat has."""


def _roots(form: Callable[[float], float], wanted: float) -> Iterator[float]:
    grid = [_SMALLEST * (_LARGEST / _SMALLEST) ** (i / 400) for i in range(401)]
    for low, high in pairwise(grid):
        if (form(low) - wanted) * (form(high) - wanted) > 0:
            continue
        for _ in range(80):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if (form(low) - wanted) * (form(middle) - wanted) > 0 else (low, middle)
        yield math.sqrt(low * high)


def _is_short(value: float) -> bool:
    """Whether a weight is a number that a person writes."""
    return abs(value / float(f"{value:.3g}") - 1) < 1e-6
