"""Law A6, for a prior whose log-density is taken at the draw: p(z_t | past) has no z_t in what it is made of.

Intervention: one element of a draw of many steps is moved. Where the mean that layers make of the draw, and that the draw is held to,
moves at that very element, whichever it is, the prior is conditioned on what it judges. A flow's coupling leaves half of them alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Leaf
from vaelint.anatomy.posterior.sites import Site
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.record import ops
from vaelint.record.record import shape

_MOVED = ops.SHAPE | ops.CAST | ops.SELECT
_MOST = 6  # elements that are moved
_FAR = 1e-5


@dataclass(frozen=True)
class OwnDraw:
    """A prior's mean that moves with the draw that it judges; and what the layers that make it are given."""

    site: Site
    prior: fx.Node
    leaf: Leaf
    given: fx.Node
    moved: float


def own_draws(bench: Bench) -> Iterator[OwnDraw]:
    """The means of priors that are computed for all steps of a draw at once."""
    flow = bench.model.flow
    layers = {n for n in flow.order if ops.uses_parameter(n)}
    for term in bench.model.terms:
        if term.role != "kl" or term.detached is not None:
            continue
        for leaf in term.leaves:
            for site in (s for s in bench.model.sites if s.z in leaf.frontier and len(shape(s.z)) == 3 and bench.knows(s.z)):
                for draw, prior in _compared(bench, leaf, site):
                    between = flow.descendants(site.z) & flow.ancestors(prior)
                    if not layers & between or (flow.ancestors(prior) & flow.random) - flow.ancestors(site.z):
                        continue
                    moved = _least_moved(bench, site, draw, prior)
                    if moved > _FAR:
                        first = flow.sorted(layers & between)[0]
                        given = [i for i in ops.value_inputs(first) if i is site.z or i in flow.descendants(site.z)]
                        yield OwnDraw(site, prior, leaf, given[0] if given else site.z, moved)


def _compared(bench: Bench, leaf: Leaf, site: Site) -> Iterator[tuple[fx.Node, fx.Node]]:
    """What of a draw is held to what was made of it: the two sides of a difference."""
    flow = bench.model.flow
    own = {site.z, *(n for n in flow.descendants(site.z) if ops.op(n) in _MOVED and _is_moved_only(bench, site, n))}
    for node in flow.sorted(flow.ancestors(leaf.node) | {leaf.node}):
        sides = [a for a in node.args[:2] if isinstance(a, fx.Node)] if ops.op(node) in ("sub", "subtract", "rsub") else []
        for draw, prior in (sides, sides[::-1]) if len(sides) == 2 else ():
            alike = shape(draw) == shape(prior) and bench.knows(draw) and bench.knows(prior)
            if alike and draw in own and prior in flow.descendants(site.z) and prior not in own:
                yield draw, prior


def _is_moved_only(bench: Bench, site: Site, node: fx.Node) -> bool:
    """Whether nothing but the places of elements changes between a draw and a value."""
    flow = bench.model.flow
    return all(ops.op(n) in _MOVED for n in flow.descendants(site.z) & flow.ancestors(node) - {site.z})


def _least_moved(bench: Bench, site: Site, draw: fx.Node, prior: fx.Node) -> float:
    """How far the prior moves at the element of the draw that was moved, where it moves least."""
    same = bench.same({s.z for s in bench.model.sites if bench.knows(s.z)})
    z, batch = same[site.z], bench.base.batch_axis(site.z) or 0
    before, least = bench.after(same, [draw, prior]), float("inf")
    size = z.select(batch, 0).numel()
    for k in sorted({*range(max(0, size - _MOST // 2), size), size // 2, *range(size // 2, min(size, size // 2 + _MOST // 2))}):
        changed = z.clone()
        rows = changed.movedim(batch, 0)
        place = [int(i) for i in torch.unravel_index(torch.tensor(k), rows.shape[1:])]
        for row in rows:
            row[tuple(place)] += 1.0
        after = bench.after({**same, site.z: changed}, [draw, prior])
        if draw not in after or prior not in after or draw not in before or prior not in before:
            return 0.0
        at = after[draw] != before[draw]
        if not bool(at.any()):
            continue  # the first step has a prior of its own
        off = (after[prior] - before[prior])[at].abs().max()
        least = min(least, float(off / (before[prior].abs().mean() + 1e-12)))
    return least if math.isfinite(least) else 0.0
