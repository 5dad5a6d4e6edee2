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
from vaelint.laws.relaxed.relaxations import classes_of_shares
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.record.walk import behind, forward
from vaelint.rule import Found

_NORMALISES = frozenset({"softmax", "log_softmax", "logsumexp", "sigmoid", "logsigmoid"})
_SAME = 1e-5
_MOVED = 1e-3


@law("kl-sees-what-is-drawn", "what leaves the draw as it was leaves its KL as it was", covered=("VAE319", "VAE321", "VAE408", "VAE419"))
def kl_sees_what_is_drawn(bench: Bench) -> Iterator[Broken]:
    """Posteriors of classes. Bounded scores, and penalties on the scores themselves, are other terms than the KL; shares given for
    scores are the affair of `relaxed-draws-get-logits`."""
    flow = bench.model.flow
    for site in bench.model.sites:
        if site.kind != "categorical" or classes_of_shares(bench, site) or site.mu is None or not bench.knows(site.z):
            continue
        for term in bench.model.terms:
            if term.role != "kl" or term.detached is not None or term.core is None:
                continue
            scores = site.mu if site.mu in flow.ancestors(term.core) else _laid_out_otherwise(bench, site.mu)
            if scores is None or not bench.knows(scores) or scores not in flow.ancestors(term.core):
                continue
            draw, size = _draw(bench, site), bench.value(site.mu).shape
            found = _moves(bench, draw, scores, size, term)
            if found is not None:
                node, axis, moved = found
                yield _other(bench, site, draw if _counts_other_classes(bench, scores, size, term, axis) else node, draw, axis, moved)
                return


def _laid_out_otherwise(bench: Bench, scores: fx.Node) -> fx.Node | None:
    """What scores were before they were laid out along their axes, with all elements in the same order."""
    root = behind(scores, ops.SHAPE)
    if root is scores or not bench.knows(root) or not bench.knows(scores):
        return None
    before, after = bench.value(root), bench.value(scores)
    return root if before.numel() == after.numel() and torch.equal(before.reshape(after.shape), after) else None


def _draw(bench: Bench, site: Site) -> fx.Node:
    """What is drawn: where noise was added to scores by hand, the softmax of their sum."""
    after = forward(site.z, bench.model.flow.users, ops.SHAPE | ops.CAST | ops.DIV | ops.MUL)
    normalised = next((n for n in after if ops.op(n) == "softmax" and bench.knows(n)), None)
    return site.z if normalised is None else normalised


def _counts_other_classes(bench: Bench, scores: fx.Node, laid_out: torch.Size, term: Term, axis: int) -> bool:
    """Whether the KL is 0 for equal scores, so that its classes are as many as its log K says, and are not those of the draw's axis."""
    core, val = term.core, bench.value(scores)
    assert core is not None
    if all(n == laid_out[axis] for n in laid_out[1:]):
        return False
    usual, equal = (bench.after({scores: new}, [core]).get(core) for new in (val.clone(), torch.zeros_like(val)))
    return usual is not None and equal is not None and float(equal.abs().max()) < _MOVED * float(usual.abs().max())


def _moves(bench: Bench, draw: fx.Node, scores: fx.Node, laid_out: torch.Size, term: Term) -> tuple[fx.Node, int, float] | None:
    """The axis of the scores, as they are laid out for the draw, along which a constant moves the KL and not the draw; by how much, and the
    first value that it moves besides the scores."""
    core, val = term.core, bench.value(scores)
    assert core is not None
    if _is_normalised(val.reshape(laid_out)):
        return None  # log-probabilities: moved by a constant they are no distribution any more
    between = _between(bench, scores, core, draw)
    before = bench.after({scores: val.clone()}, [draw, core, *between])
    for axis in range(1, len(laid_out)):
        generator = torch.Generator().manual_seed(axis)
        size = [1 if d == axis else n for d, n in enumerate(laid_out)]
        new = val.reshape(laid_out) + 2 * torch.randn(size, generator=generator).to(val)
        after = bench.after({scores: new.reshape(val.shape)}, [draw, core, *between])
        if any(n not in before or n not in after for n in (draw, core)) or differ(before[draw], after[draw]) > _SAME:
            continue
        moved = differ(before[core], after[core])
        if moved > _MOVED:
            node = next((n for n in between if n in before and n in after and differ(before[n], after[n]) > _MOVED), core)
            return node, axis, moved
    return None


def _is_normalised(scores: torch.Tensor) -> bool:
    """Whether scores are the logarithms of probabilities already, along some axis."""
    sums = [scores.double().logsumexp(d) for d in range(1, scores.dim())]
    return any(bool((s.abs() < _SAME).all()) for s in sums)


def _between(bench: Bench, scores: fx.Node, core: fx.Node, draw: fx.Node) -> list[fx.Node]:
    flow = bench.model.flow
    way = flow.ancestors(core, stop={scores, draw}) & flow.descendants(scores, stop={draw})
    return [n for n in flow.sorted(way) if ops.op(n) in _NORMALISES and bench.knows(n)]


def _other(bench: Bench, site: Site, node: fx.Node, draw: fx.Node, axis: int, moved: float) -> Broken:
    model = bench.model
    size = shape(site.mu)[axis] if site.mu is not None else 0
    found = Found(
        model.where(node),
        label="another distribution than the one that is drawn from" if node is not draw else "another distribution than the KL is of",
        labels=model.labels((draw, f"the draw is of {size} classes")) if node is not draw else (),
        why="the KL holds something else to the prior than the posterior that the decoder sees",
        help="normalise over the classes, along one and the same axis in the draw and in the KL",
    )
    text = f"a constant added to all {size} scores of a draw leaves the draw as it was, and moves its KL by {moved:.2g} of its size"
    return Broken("categorical-kl", found, "the KL is that of the distribution that is drawn from", text)
