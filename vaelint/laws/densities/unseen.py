"""Law C3, for any family: a KL does not move with what its draw does not see.

A KL is a function of the distribution that is drawn from. Intervention: a constant is added to the scores of a posterior along one axis.
Where that leaves the draw as it was for every noise (the classes of a softmax, all alike), the distribution is the same, and so must be
the KL. A KL that moves reads another distribution: one that is normalised along another axis than the draw's.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Term
from vaelint.anatomy.posterior.sites import Site
from vaelint.experiment.trial import differ
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.rule import Found

_NORMALISES = frozenset({"softmax", "log_softmax", "logsumexp", "sigmoid", "logsigmoid"})
_SAME = 1e-5
_MOVED = 1e-3


@law("kl-sees-what-is-drawn", "what leaves the draw as it was leaves its KL as it was", covered=("VAE321", "VAE408", "VAE419"))
def kl_sees_what_is_drawn(bench: Bench) -> Iterator[Broken]:
    """Posteriors of classes. Bounded scores, and penalties on the scores themselves, are other terms than the KL."""
    for site in bench.model.sites:
        scores = site.mu
        if site.kind != "categorical" or scores is None or not bench.knows(scores) or not bench.knows(site.z):
            continue
        for term in bench.model.terms:
            if term.role != "kl" or term.detached is not None or term.core is None or scores not in bench.model.flow.ancestors(term.core):
                continue
            found = _moves(bench, site, scores, term)
            if found is not None:
                yield _other(bench, site, term, *found)
                return


def _moves(bench: Bench, site: Site, scores: fx.Node, term: Term) -> tuple[fx.Node, int, float] | None:
    """The axis along which a constant moves the KL and not the draw, by how much, and the first value that it moves besides the scores."""
    core, val = term.core, bench.value(scores)
    assert core is not None
    between = _between(bench, scores, core, site)
    before = bench.after({scores: val.clone()}, [site.z, core, *between])
    for axis in range(1, val.dim()):
        generator = torch.Generator().manual_seed(axis)
        size = [1 if d == axis else n for d, n in enumerate(val.shape)]
        after = bench.after({scores: val + 2 * torch.randn(size, generator=generator).to(val)}, [site.z, core, *between])
        if any(n not in before or n not in after for n in (site.z, core)) or differ(before[site.z], after[site.z]) > _SAME:
            continue
        moved = differ(before[core], after[core])
        if moved > _MOVED:
            node = next((n for n in between if n in before and n in after and differ(before[n], after[n]) > _MOVED), core)
            return node, axis, moved
    return None


def _between(bench: Bench, scores: fx.Node, core: fx.Node, site: Site) -> list[fx.Node]:
    flow = bench.model.flow
    way = flow.ancestors(core, stop={scores, site.z}) & flow.descendants(scores, stop={site.z})
    return [n for n in flow.sorted(way) if ops.op(n) in _NORMALISES and bench.knows(n)]


def _other(bench: Bench, site: Site, term: Term, node: fx.Node, axis: int, moved: float) -> Broken:
    model = bench.model
    size = shape(site.mu)[axis] if site.mu is not None else 0
    found = Found(
        model.where(node),
        label="another distribution than the one that is drawn from",
        labels=model.labels((site.z, f"the draw is of {size} classes")),
        why="the KL holds something else to the prior than the posterior that the decoder sees",
        help="normalise over the classes, along the axis that the draw uses",
    )
    text = f"a constant added to all {size} scores of a draw leaves the draw as it was, and moves its KL by {moved:.2g} of its size"
    return Broken("categorical-kl", found, "the KL is that of the distribution that is drawn from", text)
