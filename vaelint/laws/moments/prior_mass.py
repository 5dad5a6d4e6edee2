"""Law C1, for a prior: the sum of p over all z does not move with the prior's own numbers.

For z drawn from q, E[exp(log p(z) - log q(z))] is the sum of p over all z. Intervention: a number that log p alone is made of, a learned
weight or scale of the prior, is moved, with the draws held. The sum stays where p is a density, whatever its family. Where it moves, the
loss falls by moving it on, with nothing learned. Exempt are priors in which a layer reads the draw: an energy may be normalised elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.densities.sampled_weights import Estimate
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_SEEDS = (3, 4)
_WIDE = 0.25  # how far the numbers of the encoder lie apart
_STEP = 0.5  # how far the prior's numbers are moved
_OFF = 0.15
_ERRORS = 8.0
_SHARE = 0.02  # of the draws must carry each average: where p was moved is seen as far as q draws
_LEAST, _PLAIN = 0.005, 3.0  # fewer draws do where the sum moves by that many times what could be seen
_EXACT = 1e-6  # all weights grow alike: few draws tell as much as many


@law(
    "priors-keep-their-mass",
    "the sum of a prior over all z does not move with its own numbers",
    covered=("VAE40", "VAE423", "VAE424", "VAE425", "VAE433"),
    cost="replay",
)
def priors_keep_their_mass(bench: Bench) -> Iterator[Broken]:
    """Learned numbers of a prior that is estimated at the draw, one after the other."""
    for term in bench.model.terms_of("kl"):
        estimate = Estimate(bench, term)
        if not (own := _own_numbers(estimate)) or not estimate.is_one:
            continue
        try:
            for number in own:
                if (by := _grows(estimate, own, number)) is not None:
                    yield _broken(bench, estimate, number, by)
                    return
        except ReplayError as error:
            raise CannotMeasureError(f"the KL does not run by itself: {message_of(error)}") from error


def _own_numbers(estimate: Estimate) -> list[fx.Node]:
    """Learned numbers behind the estimate by another way than the draw, none where a layer reads a draw on that way."""
    flow, term = estimate.bench.model.flow, estimate.term
    draws = {s.z for s in term.sites}
    if term.core is None or not draws:
        return []
    inside = flow.ancestors(*(leaf.node for leaf in term.leaves), stop=draws)
    below = flow.descendants(*draws) & inside
    if any(ops.uses_parameter(n) and ops.op(n) in ops.LAYERS for n in below):
        return []
    others = [leaf.node for other in estimate.bench.model.terms if other is not term for leaf in other.leaves]
    behind = flow.ancestors(*draws, *others)  # a flow's numbers move what is decoded
    return [n for n in flow.sorted(inside - behind) if n.op == "get_attr" and n.meta.get("parameter") and n.meta.get("grad")]


def _grows(estimate: Estimate, own: list[fx.Node], number: fx.Node) -> float | None:
    """By how much the logarithm of the sum moves with a number, at each of several places; None where it stays, or cannot be seen."""
    found = []
    for seed in _SEEDS:
        at = _near(estimate, own, seed)
        before, after = (estimate.logs(seed, _WIDE, put) for put in (at, {**at, number: at[number] + _STEP}))
        if before is None or after is None:
            return None
        if float(before.std()) < _EXACT:  # one draw serves all samples: nothing is averaged
            return None
        top = before.max()
        w, v = (before - top).exp(), (after - top).exp()
        ratio = float(v.sum() / w.sum())
        carried = min(float(x.sum() ** 2 / (x * x).sum()) / len(x) for x in (w, v))
        error = float((v - ratio * w).std() / w.mean()) / math.sqrt(len(w)) / ratio
        seen = _OFF + _ERRORS * error
        is_plain = carried > _LEAST and abs(math.log(ratio)) > _PLAIN * seen
        if not (carried > _SHARE or error < _EXACT or is_plain) or abs(math.log(ratio)) <= seen:
            return None
        found.append(math.log(ratio))
    return found[0]


def _near(estimate: Estimate, own: list[fx.Node], seed: int) -> dict[fx.Node, torch.Tensor]:
    """The prior's numbers near 0, where components lie under the draws."""
    replay, sizes = estimate.bench.model.replay, estimate.bench.model.record.sizes
    generator = torch.Generator().manual_seed(seed)
    return {n: _WIDE * torch.randn(replay.shape_of(n, sizes), dtype=torch.float64, generator=generator) for n in own}


def _broken(bench: Bench, estimate: Estimate, number: fx.Node, by: float) -> Broken:
    model, flow = bench.model, bench.model.flow
    assert estimate.term.core is not None
    users = flow.sorted(flow.descendants(number) & flow.ancestors(estimate.term.core))
    met = flow.descendants(*(s.z for s in estimate.term.sites))  # where it meets the draw, and not where a bound is put on it
    used = next((u for u in (*(u for u in users if u in met), *users) if model.where(u)), number)
    name = str(number.target)
    found = Found(
        model.where(used),
        label=f"p adds up to {math.exp(min(by, 50.0)):.3g} times as much over all z where {name} is moved by {_STEP:g}",
        labels=model.labels((estimate.term.core, "the KL, estimated at the draw")),
        why="log p(z) is not a log-density: the loss falls without end as the number grows, and nothing is learned by it",
        help="weights of components must add up to one: log_softmax of their logits; a scale needs its logarithm in log p",
    )
    text = f"it moves by a factor of {math.exp(min(abs(by), 50.0)):.3g}"
    return Broken("latent-density-formula", found, "p adds up to one number over all z, whatever its own numbers are", text)
