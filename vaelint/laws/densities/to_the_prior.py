"""A distance to draws of the prior is least where the codes are such draws.

Codes are replaced by draws of the model's own prior, and by the same draws twice as wide. A distance between distributions is 0 for the
first, in expectation, and grows. Where wider codes cost less in every draw, the codes' pairs weigh more than codes against the prior:
what pulls the codes together has half of its weight. A critic's distance is left out, as it is trained to tell, and so is one that falls
as the codes are moved away: a weight below 0 is another matter.

Source: Gretton et al. 2012, A kernel two-sample test, lemma 6: MMD^2 = E k(z, z') + E k(p, p') - 2 E k(z, p).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.terms import Term
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_SEEDS = 12
_WIDE = 2.0
_FAR = 4.0
_SHARE = 0.05  # of what codes far away cost
_ERRORS = 4.0


@law(
    "distances-end-at-the-prior",
    "a distance to draws of the prior is least where the codes are such draws",
    covered=("VAE407", "VAE408"),
    cost="replay",
)
def distances_end_at_the_prior(bench: Bench) -> Iterator[Broken]:
    """Distances between one set of codes and one set of draws of its size."""
    reasons: list[str] = []
    for term in bench.model.terms_of("discrepancy"):
        pair = _pair(bench, term)
        if pair is None or term.detached is not None or term.core is None:
            continue
        try:
            saved = _saved(bench, term, *pair)
        except ReplayError as error:
            reasons.append(message_of(error))
            continue
        if saved is not None:
            yield _broken(bench, term, pair[1], saved)
    if reasons:
        raise CannotMeasureError(f"the distance does not run by itself: {reasons[0]}")


def _pair(bench: Bench, term: Term) -> tuple[fx.Node, fx.Node] | None:
    """The codes and the prior's draws that a distance compares; None where there are others, or parameters."""
    flow = bench.model.flow
    front = {f for leaf in term.leaves for f in leaf.frontier}
    codes = [f for f in front if f in flow.data and f in flow.learned]
    inside = flow.ancestors(*(leaf.node for leaf in term.leaves), stop=set(codes)) - set(codes)
    drawn = [n for n in flow.sorted(inside & flow.random) if shape(n)]
    if len(codes) != 1 or any(n.meta.get("parameter") or (n in flow.data and n.op == "placeholder") for n in inside):
        return None
    like = [n for n in drawn if shape(n) == shape(codes[0])]
    if len(like) != 1 or len(shape(codes[0])) != 2:
        return None
    prior = like[0]
    while len(users := [u for u in flow.users.get(prior, []) if u in inside]) == 1 and _is_mapped(users[0], prior):
        prior = users[0]
    return codes[0], prior


def _is_mapped(node: fx.Node, prior: fx.Node) -> bool:
    """Whether draws become draws of another place or width."""
    return ops.op(node) in ops.POINTWISE and shape(node) == shape(prior) and all(i is prior or not shape(i) for i in ops.value_inputs(node))


def _saved(bench: Bench, term: Term, codes: fx.Node, prior: fx.Node) -> float | None:
    """The share of the cost of codes far away that codes twice too wide save; None where they save nothing for sure."""
    model = bench.model
    assert model.record.loss is not None
    loss, sizes = model.record.loss, dict(model.record.sizes)
    quiet = silence_others(term, model.replay, sizes)
    gains, worth = [], []
    for seed in range(_SEEDS):
        like = model.replay([prior], {}, sizes, seed=700 + seed)[prior].detach().double()
        if like.shape != torch.Size(model.replay.shape_of(codes, sizes)):
            return None
        middle, width = like.mean(0), float(like.std())
        changed = (like, middle + _WIDE * (like - middle), like + _FAR * width)
        near, wide, far = (float(model.replay([loss], {**quiet, codes: c}, sizes, seed=seed)[loss].sum()) for c in changed)
        gains.append(near - wide)
        worth.append(far - near)
    size, gain = statistics.mean(worth), statistics.mean(gains)
    sure = _ERRORS * statistics.stdev(gains) / len(gains) ** 0.5
    return gain / size if min(worth) > 0 and min(gains) > 0 and gain > max(sure, _SHARE * size) else None


def _broken(bench: Bench, term: Term, prior: fx.Node, saved: float) -> Broken:
    model = bench.model
    found = Found(
        model.where(term.core),
        label="costs less for codes twice as wide as the prior's draws than for codes like them",
        labels=model.labels((prior, "the prior's draws")),
        why="the loss is minimised by codes that are wider than the prior: what is sampled from the prior is not what the decoder learned",
        help="count codes against the prior's draws twice: MMD^2 = mean k(z, z') + mean k(p, p') - 2 mean k(z, p)",
    )
    text = f"in each of {_SEEDS} draws, wider codes cost less, by {100 * saved:.2g} % of what codes far away cost"
    return Broken("kl-formula", found, "codes like the prior's draws cost least", text)
