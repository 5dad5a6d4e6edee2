"""The order of the boxes and lanes in each layer of a picture, so that few arrows cross.

Barycentre sweeps with exchanges of neighbours, from several starts, of which the best is kept: Gansner, Koutsofios, North and Vo, A
Technique for Drawing Directed Graphs, IEEE Transactions on Software Engineering 19(3), 1993, section 3.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from itertools import pairwise

_SWEEPS = 12
_LARGE = 400  # boxes and lanes from which on one start has to do, without exchanges

Near = Mapping[int, Sequence[int]]
"""The neighbours of each node in the layer above, or below."""


def ordered(layers: Sequence[Sequence[int]], up: Near, down: Near) -> list[list[int]]:
    """The layers, each in the order of the arrangement with the fewest crossings that was seen."""
    large = sum(map(len, layers)) > _LARGE
    starts = [[list(level) for level in layers]]
    if not large:
        starts += [[level[::-1] for level in starts[0]], _walked(layers, up, down), _walked(layers[::-1], down, up)[::-1]]
    best, least = starts[0], crossings(starts[0], down)
    for start in starts:
        for turned in (False,) if large else (False, True):
            trial = [list(level) for level in start]
            for sweep in range(_SWEEPS):
                if least == 0:
                    return best
                _sweep(trial, up, down, downwards=sweep % 2 == 0, turned=turned and sweep % 4 > 1)
                if not large:
                    _exchange(trial, up, down)
                if (now := crossings(trial, down)) < least:
                    best, least = [list(level) for level in trial], now
    return best


def crossings(layers: Sequence[Sequence[int]], down: Near) -> int:
    """How many pairs of arrows cross between the layers."""
    return sum(_inversions([sorted(down[n]) for n in level], below) for level, below in pairwise(layers))


def _inversions(ends: Sequence[Sequence[int]], below: Sequence[int]) -> int:
    """Of the ends of the arrows, those left of an end that an arrow further left has."""
    place = {n: i for i, n in enumerate(below)}
    seen: list[int] = []
    count = 0
    for of in ends:
        here = [place[n] for n in of if n in place]
        count += sum(len(seen) - bisect_left(seen, at + 1) for at in here)
        for at in here:
            insort(seen, at)
    return count


def _walked(layers: Sequence[Sequence[int]], up: Near, down: Near) -> list[list[int]]:
    """Each layer in the order in which a walk along the arrows, depth first, comes to it."""
    met: dict[int, None] = {}
    waiting = [n for level in layers[::-1] for n in level[::-1]]
    while waiting:
        n = waiting.pop()
        if n not in met:
            met[n] = None
            waiting += [*down[n]][::-1]
    at = {n: i for i, n in enumerate(met)}
    return [sorted(level, key=at.__getitem__) for level in layers]


def _sweep(layers: list[list[int]], up: Near, down: Near, *, downwards: bool, turned: bool) -> None:
    """Each layer by the mean place of the neighbours in the one before; what has the same mean changes places where `turned`."""
    side = up if downwards else down
    numbers = range(1, len(layers)) if downwards else range(len(layers) - 2, -1, -1)
    for number in numbers:
        place = {n: i for i, n in enumerate(layers[number - 1 if downwards else number + 1])}
        level = layers[number][::-1] if turned else layers[number]
        mean = {n: _mean([place[m] for m in side[n] if m in place], i) for i, n in enumerate(layers[number])}
        layers[number] = sorted(level, key=mean.__getitem__)


def _mean(places: Sequence[int], own: int) -> float:
    return sum(places) / len(places) if places else float(own)


def _exchange(layers: list[list[int]], up: Near, down: Near) -> None:
    """Neighbours in a layer change places as long as that leaves fewer crossings."""
    better = True
    while better:
        better = False
        for number, level in enumerate(layers):
            above = {n: i for i, n in enumerate(layers[number - 1])} if number else {}
            below = {n: i for i, n in enumerate(layers[number + 1])} if number + 1 < len(layers) else {}
            for i in range(len(level) - 1):
                a, b = level[i], level[i + 1]
                gain = sum(_gain([place[m] for m in near[a] if m in place], [place[m] for m in near[b] if m in place])
                           for near, place in ((up, above), (down, below)))  # fmt: skip
                if gain > 0:
                    level[i], level[i + 1] = b, a
                    better = True


def _gain(left: Sequence[int], right: Sequence[int]) -> int:
    """Crossings that two neighbours have, less those that they would have the other way round."""
    return sum((a > b) - (a < b) for a in left for b in right)
