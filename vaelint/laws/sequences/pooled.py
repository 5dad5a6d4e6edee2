"""Where places are averaged within a sample's length, and those beyond it are in the sum.

Interventions, at the sizes of the batch: other data beyond each sample's length; other values of one place within it; other lengths.
What is made of a place weighs by the lengths alone where the lengths say how many places there are: a mean. Prediction: what is made of the
places beyond the length is not in it. Data that are 0 there, and add nothing for being 0, are exempt.

An encoder that is made for one number of steps and averages all of them is found by exchanging places: their order changes nothing, and
each pulls as much as any other, where the likelihood counts those within the length alone.
"""

from __future__ import annotations

import torch
from torch import fx

from vaelint.laws.bench import Bench, Seat
from vaelint.laws.sequences.lengths import beyond
from vaelint.record.record import shape

_NOTHING = 1e-6
_MUCH = 0.02  # of the spread of a posterior's parameter over the samples
_SHARE = 0.05


def pooled_beyond(bench: Bench, lengths: Seat, data: Seat, axis: int, heads: list[fx.Node]) -> tuple[fx.Node, float] | None:
    """Where places beyond the length are added up for a mean over those within it, and by how much of their spread heads move."""
    if data.axis != 0 or axis != 1:
        return None
    absent, val = beyond(bench, lengths, data, axis), bench.value(data.node)
    blank = torch.where(absent, torch.zeros_like(val), val)
    other = torch.where(absent, val.roll(1, 0).roll(1, -1), val)
    moved = _moved(bench, data.node, blank, other, heads)
    if moved is None:
        return None
    head, share = moved
    for places, pooled in _pools(bench, lengths, data, head):
        if _is_blank(bench, data, blank, places, lengths) or not _weighs_by_lengths(bench, lengths, places, pooled):
            continue
        return _sum_of(bench, places, pooled), share
    return None


def pooled_whole(bench: Bench, lengths: Seat, data: Seat, axis: int, heads: list[fx.Node]) -> tuple[fx.Node, float] | None:
    """Where all places are averaged alike, those beyond the lengths too, and by how much of their spread heads move with these."""
    if data.axis != 0 or axis != 1:
        return None
    absent, val = beyond(bench, lengths, data, axis), bench.value(data.node)
    blank = torch.where(absent, torch.zeros_like(val), val)
    moved = _moved(bench, data.node, blank, torch.where(absent, val.roll(1, 0).roll(1, -1), val), heads)
    if moved is None:
        return None
    head, share = moved
    flow, steps, batch = bench.model.flow, int(lengths.along or 0), shape(data.node)[0]
    way = [n for n in flow.sorted(flow.ancestors(head) & flow.descendants(data.node)) if bench.knows(n) and bench.is_real(n)]
    having = [n for n in way if shape(n)[:2] == (batch, steps) and len(shape(n)) > 2]
    after = [n for n in way if having and n in flow.descendants(having[-1]) and steps not in shape(n)[1:]]
    if not after or _is_blank(bench, data, blank, having[-1], lengths) or not _weighs_alike(bench, lengths, having[-1], after[0]):
        return None
    return after[0], share


def _weighs_alike(bench: Bench, lengths: Seat, places: fx.Node, pooled: fx.Node) -> bool:
    """Whether what is pooled is the same for any order of the places, and moves with one beyond the length as with one within it."""
    val, counts = bench.value(places), bench.value(lengths.node)
    rows = counts < val.shape[1]
    within, outside = val.clone(), val.clone()
    within[:, 0] += val.std()
    outside[rows, counts[rows].long()] += val.std()
    here, turned, first, last = (bench.after({places: v}, [pooled]).get(pooled) for v in (val.clone(), val.roll(1, 1), within, outside))
    if here is None or turned is None or first is None or last is None or not bool(rows.any()):
        return False
    size = float(here.abs().max())
    a, b = ((v - here)[rows].reshape(int(rows.sum()), -1).norm(dim=1) for v in (first, last))
    return float((turned - here).abs().max()) <= 1e-5 * size and bool((a > 0).all()) and bool(((a - b).abs() <= _SHARE * a).all())


def _moved(bench: Bench, node: fx.Node, blank: torch.Tensor, other: torch.Tensor, heads: list[fx.Node]) -> tuple[fx.Node, float] | None:
    """The head that moves most between two values beyond the lengths, where one moves by more than little."""
    before, after = (bench.after({node: v.clone()}, heads) for v in (blank, other))
    shares = {
        h: float((after[h] - v).abs().mean()) / max(float(v.std(0).mean()), 1e-12) for h, v in before.items() if h in after and len(v) > 1
    }
    best = max(shares, key=lambda h: shares[h], default=None)
    return (best, shares[best]) if best is not None and shares[best] > _MUCH else None


def _pools(bench: Bench, lengths: Seat, data: Seat, head: fx.Node) -> list[tuple[fx.Node, fx.Node]]:
    """What is made of the places, and the first value without them that the lengths have met."""
    flow, steps = bench.model.flow, int(lengths.along or 0)
    way = [n for n in flow.sorted(flow.ancestors(head) & flow.descendants(data.node)) if bench.knows(n) and bench.is_real(n)]
    batch = shape(data.node)[0]
    having = [n for n in way if shape(n)[:2] == (batch, steps) and len(shape(n)) > 2]
    met = flow.descendants(lengths.node) | {head}
    found = []
    for places in reversed(having):
        after = flow.descendants(places)
        pooled = next((n for n in way if n in after and n in met and shape(n)[:1] == (batch,) and steps not in shape(n)[1:]), None)
        if pooled is not None and pooled is not head:
            found.append((places, pooled))
    return found[:3]


def _is_blank(bench: Bench, data: Seat, blank: torch.Tensor, places: fx.Node, lengths: Seat) -> bool:
    """Whether what is made of the places is 0 beyond the lengths where the data is."""
    got = bench.after({data.node: blank}, [places]).get(places)
    return got is None or float(got[_outside(bench, lengths, got)].abs().max()) <= _NOTHING * float(got.abs().max())


def _outside(bench: Bench, lengths: Seat, value: torch.Tensor) -> torch.Tensor:
    counts = bench.value(lengths.node)
    return torch.arange(value.shape[1], device=counts.device) >= counts[:, None]


def _weighs_by_lengths(bench: Bench, lengths: Seat, places: fx.Node, pooled: fx.Node) -> bool:
    """Whether one more place makes what the first place counts less, in the proportion of their numbers, and what lies beyond counts."""
    val, counts = bench.value(places), bench.value(lengths.node)
    rows = (counts > 1) & (counts < val.shape[1])
    if not bool(rows.any()):
        return False
    first, next_one = val.clone(), val.clone()
    first[:, 0] += val.std()
    next_one[rows, counts[rows].long()] += val.std()

    def at(value: torch.Tensor, number: torch.Tensor) -> torch.Tensor | None:
        return bench.after({places: value.clone(), lengths.node: number.clone()}, [pooled]).get(pooled)

    here, moved, beyond_it = at(val, counts), at(first, counts), at(next_one, counts)
    fewer, moved_fewer = at(val, counts - rows.to(counts.dtype)), at(first, counts - rows.to(counts.dtype))
    if here is None or moved is None or beyond_it is None or fewer is None or moved_fewer is None:
        return False
    slopes = [(b - a)[rows].reshape(int(rows.sum()), -1).norm(dim=1) for a, b in ((here, moved), (fewer, moved_fewer), (here, beyond_it))]
    n = counts[rows].to(slopes[0])
    is_mean = bool(((slopes[0] * n - slopes[1] * (n - 1)).abs() <= _SHARE / 5 * slopes[0] * n).all()) and bool((slopes[0] > 0).all())
    return is_mean and bool((slopes[2] > (1 - _SHARE) * slopes[0]).all())


def _sum_of(bench: Bench, places: fx.Node, pooled: fx.Node) -> fx.Node:
    """The first value on the way between the two that has the places no more."""
    flow = bench.model.flow
    way = flow.sorted(flow.descendants(places) & (flow.ancestors(pooled) | {pooled}))
    return next((n for n in way if bench.is_real(n) and shape(places)[1] not in shape(n)[1:]), pooled)
