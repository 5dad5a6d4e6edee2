"""Law C3, for importance-weighted bounds: p(z) / q(z) averages to one over the draws, all of a mixture's components taken together.

With the likelihood held, the weights of log-mean-exp are p(z) / q(z) times a constant, and E_q[p / q] = 1 for every posterior. For a
mixture of experts with draws from each component, the average runs over the components too. A bound that weighs log p - log q by beta
obeys the same at the power 1 / beta, so every power is tried. Where a few draws carry the average, the score is asked instead: the
gradient of log q at held draws averages to 0.

Source: Burda et al. 2016, Importance weighted autoencoders, eq. 8; Shi et al. 2019, Variational mixture-of-experts autoencoders, eq. 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cached_property

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Term
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.densities.lowest import weight_sign
from vaelint.laws.law import Broken, law
from vaelint.laws.moments.put_out import put_out
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError, gradients
from vaelint.rule import Found

_POSTERIORS = 4
_COPIES = 96
_SEEDS = 4
_SIZE = 0.4  # how far the numbers of the encoder lie apart
_FAR = 1.2  # the same, once more for mixtures: of components that lie near each other every mean is nearly the same
_POWERS = (1.0, 0.1, 0.125, 0.2, 0.25, 0.4, 0.5, 0.8, 1.25, 2.0, 2.5, 4.0, 5.0, 8.0, 10.0)
_OFF = 0.2
_ERRORS = 8.0
_SHARE = 0.05  # of the draws must carry the average


@law(
    "importance-weights-average-to-one",
    "with the likelihood held, importance weights average to one number, the same for every posterior",
    covered=("VAE20", "VAE21", "VAE41", "VAE42", "VAE403", "VAE404", "VAE406", "VAE407", "VAE408", "VAE409", "VAE433"),
    cost="replay",
)
def importance_weights_average_to_one(bench: Bench) -> Iterator[Broken]:
    """Terms that are one log-sum-exp of log p(x, z) - log q(z), several of one shape, or a stack of one for each expert."""
    reasons: list[str] = []
    for weights in _weights(bench):
        try:
            text = weights.fault() if weights.are_measurable else None
            if text is None and weights.are_measurable and len(weights.term.sites) > 1:
                text = replace(weights, size=_FAR).fault()
        except ReplayError as error:
            reasons.append(message_of(error))
            continue
        if text is not None:
            yield _broken(bench, weights, text)
        elif weights.are_measurable and weights.have_no_prior:
            yield _improper(bench, weights)
    if reasons:
        raise CannotMeasureError(f"the bound does not run by itself: {reasons[0]}")


def _weights(bench: Bench) -> Iterator[Weights]:
    for term in bench.model.terms_of("mixed"):
        sums = [leaf.node for leaf in term.leaves if ops.op(leaf.node) == "logsumexp" and leaf.detached is None]
        if len(sums) == len(term.leaves) and len({shape(ops.value_inputs(n)[0]) for n in sums}) == 1:
            yield Weights(bench, term, tuple(ops.value_inputs(n)[0] for n in sums))
    for term in bench.model.terms_of("kl"):
        stacked = stacked_bounds(bench, term)
        if stacked and term.detached is None:
            with suppress(ReplayError):  # terms that are weighed one by one are no such stack
                yield Weights(bench, term, stacked, -weight_sign(bench, stacked[0]))


def stacked_bounds(bench: Bench, term: Term) -> tuple[fx.Node, ...]:
    """What a loss stacks for each of several draws: log p(z), read from the draw alone, and log q(z) at the draw. Empty if it does not."""
    flow = bench.model.flow
    for node in reversed(term.leaves[0].chain):
        parts = tuple(ops.value_inputs(node))
        if ops.op(node) != "stack" or len(parts) < 2 or len(parts) != len(term.sites) or len({shape(n) for n in parts}) != 1:
            continue
        own = [(s, [leaf for leaf in term.leaves if part in (leaf.node, *leaf.chain)]) for s, part in zip(term.sites, parts, strict=True)]
        told = all(
            any(leaf.frontier == (s.z,) for leaf in leaves)
            and any(s.z in leaf.frontier and len(leaf.frontier) > 1 for leaf in leaves)
            and not any(other.z in flow.ancestors(leaf.node) for leaf in leaves for other in term.sites if other is not s)
            for s, leaves in own
        )
        if told and sum(len(leaves) for _, leaves in own) == len(term.leaves):  # else a stack within, of the densities of one draw
            return parts
    return ()


@dataclass(frozen=True)
class Weights:
    """The logarithms of importance weights, one value for each draw and sample."""

    bench: Bench
    term: Term
    logs: tuple[fx.Node, ...]
    sign: float = 1.0  # -1 where they are costs
    size: float = _SIZE

    @cached_property
    def heads(self) -> list[fx.Node]:
        """What the posteriors are made of."""
        return list(dict.fromkeys(h for s in self.term.sites for h in s.heads))

    @cached_property
    def decoded(self) -> list[fx.Node]:
        """What layers make of the draws: held, all alike."""
        flow = self.bench.model.flow
        drawn = {s.z for s in self.term.sites}
        terms = (self.term, *self.bench.model.terms_of("reconstruction"))
        front = {f for term in terms for leaf in term.leaves for f in leaf.frontier} - drawn - set(self.heads)
        return [f for f in flow.sorted(front & flow.ancestors(*self.logs)) if f in flow.learned and f in flow.noisy]

    @property
    def are_measurable(self) -> bool:
        """Whether every draw is of known heads, and layers read it only to decode: no prior of its own stands between."""
        flow = self.bench.model.flow
        known = bool(self.heads) and all(s.kind != "drawn" and s.heads for s in self.term.sites)
        ends = {*self.heads, *self.decoded, *(s.z for s in self.term.sites)}
        inside = flow.ancestors(*self.logs, stop=ends) - ends
        # the decoder's outputs must meet the data, or they are a prior's
        data = set(self.bench.model.record.inputs.values())
        met = all(any(data & flow.ancestors(u, stop=ends) for u in flow.descendants(d) & inside) for d in self.decoded)
        bounded = any(ops.op(n) in ("clamp", "clip", "clamp_min", "maximum", "where") for n in inside)
        return known and met and not bounded and all(self.bench.batch_axis(n) is not None for n in self.logs)

    def _given(self, seed: int) -> tuple[dict[str, int], dict[fx.Node, torch.Tensor], dict[fx.Node, torch.Tensor]]:
        """Sizes, several posteriors with many rows each, and what is held: the likelihood's means, and one sample of the data."""
        model, rows = self.bench.model, _POSTERIORS * _COPIES
        sizes = {**model.record.sizes, "B": rows}
        generator = torch.Generator().manual_seed(51)
        heads = {}
        for head in self.heads:
            size = model.replay.shape_of(head, sizes)
            if not size or size[0] != rows:
                raise ReplayError("a posterior has no row for each sample")
            drawn = self.size * torch.randn((_POSTERIORS, *size[1:]), dtype=torch.float64, generator=generator)
            heads[head] = put_out(head, drawn).repeat_interleave(_COPIES, 0)
        held = {n: torch.full(model.replay.shape_of(n, sizes), 0.3, dtype=torch.float64) for n in self.decoded}
        inside = model.flow.ancestors(*self.logs, stop={*heads, *held})
        for node in model.record.inputs.values():
            if node in inside:
                val = model.replay([node], {}, sizes, seed=seed)[node]
                held[node] = val[:1].expand_as(val).clone()
        return sizes, heads, held

    def _rows(self, node: fx.Node, value: torch.Tensor) -> torch.Tensor:
        axis = self.bench.batch_axis(node)
        assert axis is not None
        return value.movedim(axis, 0).reshape(_POSTERIORS, -1)

    def _run(self, seed: int) -> torch.Tensor:
        """Log-weights, (posteriors, draws)."""
        sizes, heads, held = self._given(seed)
        got = self.bench.model.replay(list(self.logs), {**heads, **held}, sizes, seed=seed)
        return torch.cat([self._rows(n, self.sign * got[n].detach().double()) for n in self.logs], 1)

    def fault(self) -> str | None:
        """How the weights differ from p / q; None where they do not, or where that cannot be told."""
        logs = torch.cat([self._run(60 + k) for k in range(_SEEDS)], 1)
        if not bool(logs.isfinite().all()):
            return None
        apart = self._apart(logs)
        if apart is None:
            pull = self._mean_score()
            return None if pull is None else f"the gradient of log q at held draws averages to {pull:.3g} standard errors, not to 0"
        return f"the averages differ by a factor of {math.exp(min(apart, 50.0)):.3g} between posteriors" if apart else None

    def _apart(self, logs: torch.Tensor) -> float | None:
        """How far the averages lie apart (log) at the power where they lie nearest, 0 where they may be one number; None where a few
        draws carry them."""
        nearest = math.inf
        for power in _POWERS:
            scaled = power * logs
            w = (scaled - scaled.max(1, keepdim=True).values).exp()
            carried = w.sum(1).square() / w.square().sum(1) / w.shape[1]
            if float(carried.min()) < _SHARE:
                if power == 1.0:
                    return None
                continue
            means = scaled.logsumexp(1) - math.log(w.shape[1])
            error = float((w.std(1) / w.mean(1)).max()) / math.sqrt(w.shape[1])
            apart = float(means.max() - means.min())
            if apart <= _OFF * power + _ERRORS * error:
                return 0.0
            nearest = min(nearest, apart / power)
        return nearest

    def _mean_score(self) -> float | None:
        """E_q[d log q(z) / d heads] at held draws is 0 for every posterior: how many standard errors it is off, where it is."""
        scores = torch.cat([self._scores(80 + k) for k in range(_SEEDS)], 1)
        mean, error = scores.mean(1), scores.std(1) / math.sqrt(scores.shape[1])
        moved = error > 1e-9
        if not bool(moved.any()):
            return None  # log q has no gradient of its own
        worst = float((mean[moved].abs() / error[moved]).max())
        return worst if worst > _ERRORS else None

    def _scores(self, seed: int) -> torch.Tensor:
        """d (sum of log-weights of a row) / d heads with the draws held, (posteriors, rows, numbers)."""
        sizes, heads, held = self._given(seed)
        replay, zs = self.bench.model.replay, [s.z for s in self.term.sites]
        drawn = {z: v.detach() for z, v in replay(zs, {**heads, **held}, sizes, seed=seed).items()}
        leaves = {h: v.clone().requires_grad_() for h, v in heads.items()}
        got = replay(list(self.logs), {**held, **drawn, **{h: v * 1 for h, v in leaves.items()}}, sizes, seed=seed)
        total = torch.stack([got[n].sum() for n in self.logs]).sum()
        if not total.requires_grad:
            raise ReplayError("log q has no gradient")
        found = gradients(total, list(leaves.values()))
        whole = [torch.zeros_like(v) if g is None else g for g, v in zip(found, leaves.values(), strict=True)]
        return torch.cat([g.reshape(_POSTERIORS, _COPIES, -1) for g in whole], 2)

    @property
    def have_no_prior(self) -> bool:
        """Whether weights are 1 / q alone for a normal draw: they move with its noise as exp(|eps|^2 / 2) does.

        Such a prior is the same everywhere, and has no sum: the draw has no bounds.
        """
        site = self.term.sites[0]
        if len(self.term.sites) != 1 or site.kind != "gaussian" or len(self.logs) != 1 or len(site.noise) != 1:
            return False
        noise, (logs,) = site.noise[0], self.logs
        if shape(noise)[:-1] != shape(logs):
            return False
        with suppress(ReplayError):
            sizes, heads, held = self._given(70)
            size = self.bench.model.replay.shape_of(noise, sizes)
            generator = torch.Generator().manual_seed(71)
            eps = [torch.randn(size, dtype=torch.float64, generator=generator) for _ in range(2)]
            here, there = (self.bench.model.replay([logs], {**heads, **held, noise: e}, sizes)[logs] for e in eps)
            left = self.sign * (there - here) - (eps[1].square() - eps[0].square()).sum(-1) / 2
            return bool(left.abs().max() < 1e-6)
        return False

    def density(self) -> fx.Node:
        """The addend that is made of the posteriors' own values: log q."""
        flow, node = self.bench.model.flow, self.logs[0]
        drawn = {s.z for s in self.term.sites}
        while True:
            ins = ops.value_inputs(node)
            own = [i for i in ins if flow.ancestors(i, stop=drawn) & set(self.heads)]
            if not own or ops.op(node) not in ops.ADD | ops.JOIN | ops.SHAPE | {"neg"} or (len(own) > 1 and ops.op(node) not in ops.JOIN):
                return node
            node = own[0]


def _improper(bench: Bench, weights: Weights) -> Broken:
    model = bench.model
    found = Found(
        model.where(weights.density()),
        label="the log-density of a draw without bounds, beside a prior that is the same for all of its values",
        labels=model.labels((weights.term.sites[0].z, "drawn here")),
        why="the wider the draws, the larger the weights: where the decoder reads a bent draw, the prior is that of the bent one, "
        "and log q is the density of the draw before",
        help="log q(z) of z = g(u) is log q(u) - log|dg/du|: for tanh that is log(1 - tanh(u)**2), summed over the latent",
    )
    text = "with the likelihood held, the weights move with the noise as 1 / q does, and with nothing else"
    return Broken("kl-formula", found, "log q comes with a prior of the draw, or with the volume of what bends it", text)


def _broken(bench: Bench, weights: Weights, text: str) -> Broken:
    model = bench.model
    found = Found(
        model.where(weights.density()),
        label="not the log-density of the draws: p / q averages to another number for each posterior",
        labels=model.labels(*((s.z, "drawn here") for s in weights.term.sites[:1])),
        why="the bound holds for no posterior, and is maximised by the wrong one",
        help="take log q(z) from the distribution that z is drawn from; for draws from each component of a mixture it is "
        "logsumexp over the components' log-densities, minus log of their number",
    )
    return Broken("kl-formula", found, "E[p / q] = 1 and E[d log q] = 0 under the draws, for every posterior", text)
