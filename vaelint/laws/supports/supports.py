"""Values that one element of the data may have: where the probabilities of a likelihood are added up.

Levels are counted in the data, or found by what the likelihood itself adds up to 1 over: bins have the mass of each level between two
values of a distribution function, and all beyond the ends at the ends. Over levels whose bins touch it adds up to 1 in every state; over
fewer, what lies in the gaps is missing, in proportion to how many are. So two sums tell at which number nothing is missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch

from vaelint.late import dataclass
from vaelint.laws.densities.elementwise import Elementwise
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError

LINE, HALF_LINE = "the real line", "positive numbers"
SPREAD = 0.03  # of log Z between states of the decoder: what sums on a grid leave is below 0.01
_DRAWN, _ROWS = 30_000, 4096  # numbers of the data that are looked at, in at most so many samples
_FEWEST, _MOST = 3, 4096  # levels
_SEEN = 8  # values for each level, or they are no levels
_ALL = 0.9  # of the levels must occur
_EVEN = 1e-3  # of a step
_SAME, _COARSE = 0.05, 2.5  # of the steps of data and likelihood: sloppy ends; data that leave levels out
_NEAR, _JUMPS = 1e-4, 0.05  # of a step beside a level, and what the term differs there
_ON = 0.1  # of a step, from the next level
_TRIED = 16  # below, each number of levels is tried
_FIRST, _SECOND = 17, 33  # levels of the two sums
_TELLS = 0.02  # how much of a state must lie between the ends
_TURNS = 8
_OFF = 0.3  # of one level's share: a number of levels that is none in whole numbers is out by half of it
_NEAR_AN_END = torch.logspace(-12, -2, 241, dtype=torch.float64)  # of an interval's width
_ZONE = (0.01, 0.03)  # of an interval's width: the zone at an end, and what tells its power
_CUT = 0.01  # of a state's sum
_INTERVALS = ((-1.0, 1.0), (0.0, 1.0), (-0.5, 0.5))
_MISTAKEN = frozenset({510, 512, 128, 62})  # steps that are half or twice as wide as those of images with 256 and 32 levels


@dataclass(frozen=True)
class Support:
    """Values that the data may have, and what each counts in a sum that stands for the integral (log)."""

    words: str
    points: torch.Tensor
    log_mass: torch.Tensor
    ends: bool  # whether mass beyond the last points would be missed
    spread: float = SPREAD  # of log Z between states of the decoder, that is none
    step: float = 0.0  # between two values, where they are levels
    bounds: tuple[float, ...] = ()  # the finite ends of an interval or a half line

    def holds(self, low: float, high: float) -> bool:
        """Whether data between two values may be of it: what is no density where the data never are is none the less."""
        wide = min(0.05, float(self.points[-1] - self.points[0]) / 100)
        return bool(self.points[0] - wide <= low and high <= self.points[-1] + wide)

    @property
    def is_line(self) -> bool:
        """Whether the sum over it stands for an integral."""
        return not self.step and not self.ends


def steps(words: str, low: float, high: float, count: int, spread: float = SPREAD) -> Support:
    """So many levels, evenly from `low` to `high`."""
    points = torch.linspace(low, high, count, dtype=torch.float64)
    return Support(words, points, torch.zeros(count, dtype=torch.float64), False, spread, (high - low) / (count - 1))


def _interval(words: str, low: float, high: float) -> Support:
    """Even steps, and ever finer ones towards the ends, where a Beta law may have a peak without end."""
    width = high - low
    near = width * _NEAR_AN_END
    inner = torch.linspace(low + float(near[-1]), high - float(near[-1]), 1201, dtype=torch.float64)
    edges = torch.cat([low + near[:-1], inner, (high - near[:-1]).flip(0)])
    points = 0.5 * (edges[1:] + edges[:-1])
    return Support(words, points, (edges[1:] - edges[:-1]).log(), ends=False, bounds=(low, high))


def _line(low: float = -1.0) -> Support:
    """The middle in even steps, then ever wider ones: heavy tails count too."""
    tail = torch.logspace(0, 4, 241, dtype=torch.float64) * 14
    if low < 0:
        edges = torch.cat([(-tail[1:]).flip(0), torch.linspace(-14, 14, 1401).double(), tail[1:]])
    else:  # a Gamma law may have a peak without end at 0
        edges = torch.cat([_NEAR_AN_END[:-1], torch.linspace(float(_NEAR_AN_END[-1]), 14, 1401).double(), tail[1:]])
    points = 0.5 * (edges[1:] + edges[:-1])
    words = LINE if low < 0 else HALF_LINE
    return Support(words, points, (edges[1:] - edges[:-1]).log(), ends=False, bounds=() if low < 0 else (0.0,))


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

CIRCLES: tuple[Callable[[], Support], ...] = (
    lambda: _interval("angles from -pi to pi", -math.pi, math.pi),
    lambda: _interval("angles from 0 to 2 pi", 0.0, 2 * math.pi),
)


def goes_round(one: Elementwise) -> bool:
    """Whether the term is the same after a whole turn of the data, in every state of the decoder."""
    at = torch.linspace(-math.pi, math.pi, 5, dtype=torch.float64)[:-1]
    try:
        here, there = (one.over(points)[one.core] for points in (at, at + 2 * math.pi))
    except ReplayError:
        return False
    return torch.allclose(here, there, rtol=1e-6, atol=1e-6) and not torch.allclose(here, here[:1].expand_as(here))


def levels_of_data(one: Elementwise) -> Support | None:
    """The levels that the target of a likelihood has, where it is made of whole numbers or rounded; None where it has none."""
    model, target = one.bench.model, one.at.target
    sources = model.flow.ancestors(target) & set(model.record.inputs.values())
    if not sources or target in model.flow.learned:
        return None
    each = max(1, math.prod(shape(target)[1:]))
    try:
        got = model.replay([target], {}, {**model.record.sizes, "B": max(2, min(_ROWS, _DRAWN // each))})[target]
    except ReplayError:
        return None
    values = got.detach().double().flatten()
    found = values.unique()
    count = len(found)
    if not _FEWEST <= count <= min(_MOST, len(values) // _SEEN) or not bool(found.isfinite().all()):
        return None
    step = float(found.diff().median())
    places = (found - found[0]) / step
    levels = round(float(places[-1])) + 1
    if float((places - places.round()).abs().max()) > _EVEN or not count / _ALL >= levels >= count:
        return None
    return steps(f"the {levels} levels of the data", float(found[0]), float(found[-1]), levels)


def range_of_data(one: Elementwise) -> tuple[float, float]:
    """The least and the largest of the recorded data; (0, 0), which all supports hold, where they cannot be told."""
    try:
        values = one.bench.model.replay([one.at.target], {}, dict(one.bench.model.record.sizes))[one.at.target].double()
    except ReplayError:
        return 0.0, 0.0
    return float(values.min()), float(values.max())


def hangs_on_an_end(curve: torch.Tensor, support: Support) -> torch.Tensor:
    """For each state whether its sum hangs on what the term does right at an end of the support.

    Near an end a density goes as a power of the distance to it. Where the mass there is another than that power has, the peak is cut off:
    a small number is added to the data, or they are clamped, so that a logarithm stays finite. That is no missing normaliser.
    """
    logs = support.log_mass[:, None] - curve
    whole = torch.logsumexp(logs, 0)
    found = torch.zeros_like(whole, dtype=torch.bool)
    for end in support.bounds:
        distance = (support.points - end).abs()
        unit = min(1.0, float(distance.max()))
        near, far = (int((distance - share * unit).abs().argmin()) for share in _ZONE)
        power = (curve[near] - curve[far]) / (distance[far] / distance[near]).log()
        told = distance[near].log() - curve[near] - (power + 1).clamp_min(1e-9).log()
        zone = torch.logsumexp(logs[distance <= distance[near]], 0)
        found |= ~(((told - whole).exp() - (zone - whole).exp()).abs() < _CUT)  # nor is NaN near
    return found


def may_be(levels: Support | None, support: Support) -> bool:
    """Whether data with these levels may be data of that support: levels of the same step, or of which the data leave most out."""
    if levels is None or not support.step or len(support.points) < _FEWEST:
        return True
    ratio = levels.step / support.step
    places = (levels.points - support.points[0]) / support.step
    return abs(ratio - 1) < _SAME or (ratio > _COARSE and float((places - places.round()).abs().max()) < _ON)


def has_values_alone(one: Elementwise, levels: Support) -> bool:
    """Whether a level has a value that nothing near it has, on either side: `x == 0` picks another formula."""
    try:
        at, below, above = (one.over(levels.points + by * levels.step)[one.core] for by in (0.0, -_NEAR, _NEAR))
    except ReplayError:
        return False
    return bool((((at - below).abs() > _JUMPS) & ((at - above).abs() > _JUMPS)).any())


def own_levels(one: Elementwise, levels: Support | None) -> Iterator[Support]:
    """Levels over which a likelihood may add up to 1, by its own sums.

    Where the data show no levels, such as are half or twice as many as those of 8 and 5 bits are taken for a mistake with these.
    """
    for low, high in _INTERVALS:
        near = _where_nothing_is_missing(lambda n, low=low, high=high: _sums(one, low, high, n))  # type: ignore[misc]
        for count in (*range(_FEWEST, _TRIED + 1), *((near, near - 1, near + 1) if near else ())):
            support = steps(f"{count} steps from {low:g} to {high:g}", low, high, count, min(SPREAD, _OFF / count))
            if may_be(levels, support) and (levels is not None or count - 1 not in _MISTAKEN):
                yield support


def _sums(one: Elementwise, low: float, high: float, count: int) -> torch.Tensor:
    """The probabilities of so many levels together, for each state."""
    return torch.logsumexp(-one.over(torch.linspace(low, high, count, dtype=torch.float64))[one.core], 0).exp()


def _where_nothing_is_missing(sums: Callable[[int], torch.Tensor]) -> int | None:
    """The number of levels at which the sums are 1, along lines through two of them; None where they tell none."""
    tried = {_FIRST: sums(_FIRST)}
    before, count = _FIRST, _SECOND
    for _ in range(_TURNS):
        tried[count] = sums(count)
        rise = (tried[count] - tried[before]) / (count - before)
        tells = rise.isfinite() & (rise * count > _TELLS)
        if not bool(tells.any()):
            return None
        nearer = round(float((count + (1 - tried[count][tells]) / rise[tells]).median()))
        if nearer in tried or not _TRIED < nearer <= _MOST:
            return nearer if nearer in tried else None
        before, count = count, nearer
    return count
