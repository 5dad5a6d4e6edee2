"""Law A5, for heads: the columns that the draw reads as means are the columns that the KL reads as means.

Intervention: one column of the head after another is moved. In the KL to a Gaussian a mean costs a parabola and a spread does not, whatever
they are made of; so the term itself says which columns it takes for means.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.posterior.sites import Site
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.record.walk import behind
from vaelint.rule import Found

_ASKED = 8  # columns of each kind
_ALIKE = 1e-3  # of a second difference: what float32 leaves of the third one of a parabola


@law(
    "columns-mean-the-same",
    "the KL takes those columns of a head for means that the draw takes for means",
    covered=("VAE404", "VAE406", "VAE407", "VAE408", "VAE409", "VAE410", "VAE512"),
)
def columns_mean_the_same(bench: Bench) -> Iterator[Broken]:
    """Only where draw and KL cut one head in two ways: where they read the same parts, each part means one thing."""
    for term in bench.model.terms:
        if term.role != "kl" or term.detached is not None or term.core is None or not bench.knows(term.core):
            continue
        front = {f for leaf in term.leaves for f in leaf.frontier}
        for site in bench.model.sites:
            head = _shared(bench, site)
            if head is None or head not in front or front & set(site.heads):
                continue
            means, spreads = _read(bench, site, head)
            taken = {c: _is_parabola(bench, term.core, head, c) for c in (*means, *spreads)}
            kinds = [{taken[c] for c in columns} for columns in (means, spreads)]
            if kinds == [{True, False}, {True, False}]:
                yield _broken(bench, site, head, term.core, sum(not taken[c] for c in means), len(means))
                return


def _shared(bench: Bench, site: Site) -> fx.Node | None:
    """The one output that both mean and spread are parts of."""
    if site.kind != "gaussian" or not site.mu_heads or not site.scale_heads or len(site.noise) != 1:
        return None
    whole = {behind(h, ops.SELECT | ops.SHAPE) for h in site.heads}
    head = whole.pop() if len(whole) == 1 else None
    apart = head is not None and head not in site.heads and len(shape(head)) == 2
    return head if apart and head is not None and bench.knows(head) and bench.knows(site.z) and bench.knows(site.noise[0]) else None


def _read(bench: Bench, site: Site, head: fx.Node) -> tuple[list[int], list[int]]:
    """Columns that move the draw without noise, and columns that move it with noise only; some of each."""
    value, noise = bench.value(head), bench.value(site.noise[0])
    means: list[int] = []
    spreads: list[int] = []
    for column in range(value.shape[1]):
        moved = value.clone()
        moved[:, column] += 1.0
        follows = []
        for eps in (torch.zeros_like(noise), torch.ones_like(noise)):
            before, after = (bench.after({head: v, site.noise[0]: eps}, [site.z])[site.z] for v in (value, moved))
            follows.append(not torch.equal(before, after))
        if follows[1]:
            (means if follows[0] else spreads).append(column)
    return _some(means), _some(spreads)


def _some(columns: list[int]) -> list[int]:
    """The first and the last: halves and pairs differ there."""
    return columns if len(columns) <= _ASKED else [*columns[: _ASKED // 2], *columns[-_ASKED // 2 :]]


def _is_parabola(bench: Bench, core: fx.Node, head: fx.Node, column: int) -> bool:
    """Whether the term is an upright parabola in a column."""
    value, costs = bench.value(head), []
    for step in (-1.0, 0.0, 1.0, 2.0):
        moved = value.clone()
        moved[:, column] += step
        costs.append(bench.after({head: moved}, [core])[core].double().flatten())
    a, b, c, d = costs
    second, third = float((a - 2 * b + c).sum()), float((d - 3 * c + 3 * b - a).abs().sum())
    return second > 0 and third < _ALIKE * second


def _broken(bench: Bench, site: Site, head: fx.Node, core: fx.Node, odd: int, asked: int) -> Broken:
    model = bench.model
    found = Found(
        model.where(site.mu_heads[0]),
        label="the draw's means, and in part what the KL takes for the spread",
        labels=model.labels((core, "this KL cuts the head in another way"), (head, "the head")),
        shapes=(model.row(head),),
        why="the KL regularises other numbers than those that are drawn from: the spread that is drawn may shrink to nothing at no cost",
        help="cut the head once, and hand mu and logvar to the sampler and to the KL alike",
    )
    text = f"{odd} of {asked} columns that are drawn as means cost no parabola, and columns drawn as spread do"
    return Broken("swapped-posterior", found, "the KL is a parabola in each column that the draw takes for a mean", text)
