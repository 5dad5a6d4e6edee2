"""Places for the boxes of a picture: in layers from top to bottom, with few crossings (the method of Sugiyama, Tagawa and Toda,
IEEE Transactions on Systems, Man and Cybernetics 11(2), 1981)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from vaelint.late import dataclass
from vaelint.report.parts.ordering import ordered

_SWEEPS = 8
_STRAIGHT = 8.0  # how much more a lane follows itself than the box at its end


@dataclass(frozen=True)
class Placed:
    """Layer and horizontal centre of each box, and the points between the layers that each arrow passes, by its place."""

    layer: list[int]
    centre: list[float]
    ways: list[list[tuple[int, float]]]  # (layer, centre)
    width: float
    layers: int


def place(count: int, arrows: Sequence[tuple[int, int]], box: int, lane: int, late: Collection[int] = ()) -> Placed:
    """Places `count` boxes of width `box`; an arrow that passes a layer takes a lane of width `lane` there.

    Boxes are numbered in the order of the way; those of `late` stand right above what needs them. Arrows that run against the
    order are drawn and do not count for the layers.
    """
    layer = _layers(count, arrows, late)
    nodes: list[list[int]] = [[] for _ in range(max(layer, default=0) + 1)]
    for i, level in enumerate(layer):
        nodes[level].append(i)
    up: dict[int, list[int]] = {i: [] for i in range(count)}
    down: dict[int, list[int]] = {i: [] for i in range(count)}
    level_of = list(layer)
    lanes: dict[tuple[int, int], int] = {}  # of a box at a layer: arrows from it share their way
    chains: list[list[int]] = []
    for a, b in arrows:
        chain: list[int] = []
        before = a
        for level in range(layer[a] + 1, layer[b]):
            if (a, level) not in lanes:
                lanes[(a, level)] = len(level_of)
                level_of.append(level)
                nodes[level].append(lanes[(a, level)])
                up[lanes[(a, level)]], down[lanes[(a, level)]] = [], []
            node = lanes[(a, level)]
            if before not in up[node]:
                up[node].append(before)
                down[before].append(node)
            before = node
            chain.append(node)
        if layer[a] < layer[b]:
            up[b].append(before)
            down[before].append(b)
        chains.append(chain)
    nodes = ordered(nodes, up, down)
    widths = [float(box if i < count else lane) for i in range(len(level_of))]
    centre = _centres(nodes, up, down, widths)
    least = min((centre[i] - widths[i] / 2 for i in range(len(centre))), default=0.0)
    centre = [c - least for c in centre]
    width = max((centre[i] + widths[i] / 2 for i in range(len(centre))), default=0.0)
    ways = [[(level_of[n], centre[n]) for n in chain] for chain in chains]
    return Placed(layer, centre[:count], ways, width, len(nodes))


def _layers(count: int, arrows: Sequence[tuple[int, int]], late: Collection[int]) -> list[int]:
    """The longest way from a source; a box that nothing leads to stands right above the first that needs it."""
    layer = [0] * count
    forward = sorted((a, b) for a, b in arrows if a < b)
    into: dict[int, list[int]] = {}
    for a, b in forward:
        into.setdefault(b, []).append(a)
    for b in range(count):
        if b in into:
            layer[b] = 1 + max(layer[a] for a in into[b])
    out: dict[int, list[int]] = {}
    for a, b in forward:
        out.setdefault(a, []).append(b)
    for a in reversed(range(count)):
        users = [layer[b] for b in out.get(a, ())]
        if users and a > 0 and (a not in into or a in late):
            layer[a] = max(min(users) - 1, 0)
    return layer


def _centres(nodes: list[list[int]], up: dict[int, list[int]], down: dict[int, list[int]], widths: Sequence[float]) -> list[float]:
    """Horizontal places that keep the order, pulled towards those of the neighbours."""
    x = [0.0] * len(widths)
    for level in nodes:
        at = 0.0
        for n in level:
            x[n] = at + widths[n] / 2
            at += widths[n]
        for n in level:
            x[n] -= at / 2
    for sweep in range(2 * _SWEEPS + 1):
        levels, side = (nodes, up) if sweep % 2 == 0 else (nodes[::-1], down)
        for level in levels:
            wanted = [_wanted(n, x, side[n], widths) for n in level]
            for n, value in zip(level, _apart(wanted, [widths[n] for n in level]), strict=True):
                x[n] = value
    return x


def _wanted(n: int, x: Sequence[float], near: Sequence[int], widths: Sequence[float]) -> float:
    """Right below (or above) the neighbours, so that chains are straight; a lane follows itself more than the box at its end."""
    narrow = min(widths)
    told = [(x[m], _STRAIGHT if widths[n] == widths[m] == narrow else 1.0) for m in near]
    return sum(v * w for v, w in told) / sum(w for _, w in told) if told else x[n]


def _apart(wanted: Sequence[float], widths: Sequence[float]) -> list[float]:
    """The places nearest to the wanted ones (least squares) that keep the order and do not overlap: pooled neighbours."""
    offsets, total = [], 0.0
    for i, w in enumerate(widths):
        total += (widths[i - 1] + w) / 2 if i else 0.0
        offsets.append(total)
    groups: list[tuple[float, int]] = []  # mean, count: isotonic regression of wanted - offset
    for value, offset in zip(wanted, offsets, strict=True):
        mean, size = value - offset, 1
        while groups and groups[-1][0] > mean:
            last, many = groups.pop()
            mean, size = (last * many + mean * size) / (many + size), many + size
        groups.append((mean, size))
    flat = [mean for mean, size in groups for _ in range(size)]
    return [f + o for f, o in zip(flat, offsets, strict=True)]
