"""Law C5, for draws: several draws of one posterior count once, in every term alike.

Measured on the gradients of the run: what one sample weighs in the loss after its draws were brought together, and whether they were
averaged or added up on the way. A term that adds K draws up beside one that takes their mean weighs K times what is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.anatomy.posterior.sites import Site, sample_axes
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.rule import Found

_SAME = 1e-3


@dataclass(frozen=True)
class _Joined:
    """Where a term brings K draws together, what all K of them weigh there, and what their sum or mean weighs in the loss."""

    node: fx.Node
    draws: int
    total: float
    after: float

    @property
    def averaged(self) -> bool:
        """Whether K draws weigh as much as what is made of them."""
        return abs(self.total - self.after) <= _SAME * self.after

    @property
    def added(self) -> bool:
        """Whether they weigh K times that, and nothing divides by K later on."""
        return abs(self.total - self.draws * self.after) <= _SAME * self.total


@law("draws-count-once", "the draws of one posterior are averaged in every term alike", covered=("VAE401", "VAE402", "VAE405", "VAE418"))
def draws_count_once(bench: Bench) -> Iterator[Broken]:
    """Terms that add up what another term averages. A bound that takes a logarithm over the draws is no sum, and has a law of its own."""
    for site in bench.model.sites:
        for axis in sample_axes(site):
            joined = [j for term in bench.model.terms for j in _joins(bench, term, site, shape(site.z)[axis])]
            means = [j for j in joined if j.averaged]
            sums = [j for j in joined if j.added and any(_weigh_alike(j, m) for m in means)]
            if sums:
                yield _summed(bench, sums[0], means[0], site)
                return


def _weigh_alike(one: _Joined, other: _Joined) -> bool:
    """Whether sum and mean go on with one weight: a sum that is divided by K later on weighs a K-th of the mean."""
    return one.draws == other.draws and abs(one.after * one.draws - other.after) > _SAME * other.after


def _joins(bench: Bench, term: Term, site: Site, draws: int) -> Iterator[_Joined]:
    if term.detached is not None:
        return
    for leaf in term.leaves:
        if site.z in bench.model.flow.ancestors(leaf.node) and leaf.detached is None:
            found = _joined(bench, leaf, draws)
            if found is not None:
                yield found


def _joined(bench: Bench, leaf: Leaf, draws: int) -> _Joined | None:
    """The reduction over the draws, on the way from an addend up to the loss; None where no axis alone is that of the draws."""
    way = [leaf.node, *reversed(leaf.chain)]
    for source, node in pairwise(way):
        if ops.op(node) not in ops.LINEAR_REDUCE or not bench.knows(source) or not bench.knows(node):
            continue
        before, after = shape(source), shape(node)
        if before.count(draws) == 1 and draws not in after and before[0] == draws and after == before[1:]:
            return _weighed(bench, node, source, draws)
    return None


def _weighed(bench: Bench, node: fx.Node, source: fx.Node, draws: int) -> _Joined | None:
    base = bench.base
    ends = [base.value(source), base.value(node)]
    inside, outside = base.gradient(base.loss, ends)
    if inside is None or outside is None:
        return None
    each, whole = inside.detach().double().abs().sum(0), outside.detach().double().abs()
    if not bool((whole > 0).all()) or float((each / whole).max() - (each / whole).min()) > _SAME * draws:
        return None
    return _Joined(node, draws, float((each / whole).mean()) * _per_sample(whole), _per_sample(whole))


def _per_sample(weights: torch.Tensor) -> float:
    return float(weights.mean()) * weights.shape[0] if weights.dim() else float(weights)


def _summed(bench: Bench, one: _Joined, other: _Joined, site: Site) -> Broken:
    model = bench.model
    found = Found(
        model.where(one.node),
        label=f"adds up {one.draws} draws",
        labels=model.labels((other.node, f"here {other.draws} draws are averaged"), (site.z, "drawn here, several times for each sample")),
        why=f"this term weighs {one.draws} times what is written, and another number of draws is another objective",
        help="take the mean over the draws in both terms: .mean(0)",
    )
    text = f"{one.draws} draws weigh {one.total / one.after:.4g} times their sum's weight here, and once where they are averaged"
    return Broken("draws-summed", found, "K draws weigh as much as one, in every term", text)
