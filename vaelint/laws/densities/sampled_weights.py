"""Law C3, for a KL estimated at the draw: p / q averages to one under the model's own sampler, whatever the family.

For z drawn from q, E[exp(log p(z) - log q(z))] is the sum of p over all z: one number, the same for every posterior. So the term is run on
many draws of the recorded sampler, for several posteriors near the middle, and the averages are compared. Neither family need be known:
flows, mixtures, hierarchies and discrete draws obey it alike. Posteriors whose weights are carried by a few draws say nothing.

Source: Owen 2013, Monte Carlo theory, methods and examples, section 9.1 (importance weights have mean 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Term, part_of
from vaelint.core.finding import Span
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.densities.lowest import weight_sign
from vaelint.laws.densities.weights_of_bounds import stacked_bounds
from vaelint.laws.law import Broken, law
from vaelint.laws.moments.put_out import put_out
from vaelint.record import ops
from vaelint.record.record import shape, span
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_DRAWS = 6000
_LARGEST = 8_000_000
_SHARE = 0.1  # of the draws must carry the average
_OFF = 0.12
_ERRORS = 8.0
_POSTERIORS = (0.25, 0.25, 0.5, 0.5)  # how far the numbers of the encoder lie apart
_FEWEST = 3
_CUTS = frozenset({"clamp", "clip", "clamp_min", "maximum", "relu", "where"})


@law(
    "weights-average-to-one",
    "p / q averages to one number over the draws, the same for every posterior",
    covered=(
        "VAE20",
        "VAE21",
        "VAE41",
        "VAE42",
        "VAE403",
        "VAE404",
        "VAE406",
        "VAE407",
        "VAE408",
        "VAE409",
        "VAE433",
        "VAE434",
        "VAE435",
        "VAE509",
    ),
    cost="replay",
)
def weights_average_to_one(bench: Bench) -> Iterator[Broken]:
    """KL terms that read the draw. Those that hold every sample against every other are estimates of something else."""
    reasons: list[str] = []
    for term in bench.model.terms:
        estimate = Estimate(bench, term)
        if not estimate.is_one:
            continue
        try:
            apart = estimate.apart()
        except ReplayError as error:
            reasons.append(message_of(error))
            continue
        if apart is not None and apart[0] > _OFF + _ERRORS * apart[1]:
            yield _broken(bench, term, *apart)
    if reasons:
        raise CannotMeasureError(f"the KL does not run by itself: {reasons[0]}")


@dataclass(frozen=True)
class Estimate:
    """A term log q(z) - log p(z), summed for each sample."""

    bench: Bench
    term: Term

    @property
    def is_one(self) -> bool:
        """Whether the draw itself enters, and the term keeps one number (or more) for each sample."""
        core = self.term.core
        if self.term.role != "kl" or self.term.detached is not None or core is None or not self.term.sites:
            return False
        heads = {h for s in self.term.sites for h in s.heads}
        if not heads or any(s.kind == "drawn" for s in self.term.sites):
            return False
        if self._batch_axis is None or not self._reads_the_draw(core, heads) or self._pairs_or_bounds(core, heads):
            return False
        if self._takes_an_entropy(core) or self._weighs_draws() or self._weighs_closed_forms():
            return False
        return not stacked_bounds(self.bench, self.term)  # of a mixture's components all draws together average to one

    @property
    def _batch_axis(self) -> int | None:
        """The axis of the samples; what lies before it are draws or steps, the first of which obeys the law by itself."""
        assert self.term.core is not None
        axes = [k for k, text in enumerate(self.bench.model.dims(self.term.core)) if text == "B"]
        return axes[0] if len(axes) == 1 else None

    def _reads_the_draw(self, core: fx.Node, heads: set[fx.Node]) -> bool:
        """Whether the draw is in log q and in log p; not where it only chooses the component of closed forms (VaDE)."""
        flow, draws = self.bench.model.flow, {s.z for s in self.term.sites}
        if any(draws.isdisjoint(flow.ancestors(leaf.node)) for leaf in self.term.leaves if leaf.role == "prior"):
            return False
        shares = {n for n in flow.ancestors(core, stop=heads) if ops.op(n) in ("softmax", "log_softmax")}
        return any(z in leaf.frontier for z in draws for leaf in self.term.leaves) and bool(draws & flow.ancestors(core, stop=shares))

    def _pairs_or_bounds(self, core: fx.Node, heads: set[fx.Node]) -> bool:
        """Whether samples are held against each other, or a value that the noise has moved is cut off."""
        model = self.bench.model
        noisy = model.flow.noisy
        inside = [n for n in model.flow.ancestors(core, stop=heads | self._likelihoods) if isinstance(n.meta.get("val"), torch.Tensor)]
        pairs = any(sum("B" in text for text in model.dims(n)) > 1 for n in inside)
        return pairs or any(ops.op(n) in _CUTS and n in noisy and heads & model.flow.ancestors(n) for n in inside)

    def _takes_an_entropy(self, core: fx.Node) -> bool:
        """Whether log q is the entropy in closed form: beside the draw it reads neither a mean nor the noise."""
        flow = self.bench.model.flow
        apart = flow.ancestors(core, stop={s.z for s in self.term.sites})
        return not any(apart & {*s.mu_heads, *s.noise} for s in self.term.sites)

    def _weighs_draws(self) -> bool:
        """Whether draws count by held shares that they are made of: what is learned from them are both densities (reweighted
        wake-sleep: Bornschein & Bengio 2015), and no divergence is estimated."""
        flow, draws = self.bench.model.flow, {s.z for s in self.term.sites}
        products = [(leaf, n) for leaf in self.term.leaves for n in leaf.chain if ops.op(n) in ops.MUL]
        beside = [n for leaf, link in products for n in ops.value_inputs(link) if n is not leaf.node and n not in leaf.chain]
        return any(not n.meta.get("grad") and not draws.isdisjoint(flow.ancestors(n)) for n in beside)

    def _weighs_closed_forms(self) -> bool:
        """Whether the mean costs by itself, not by its distance from the draw: closed forms for each component that the draw only weighs.

        log q(z) - log p(z) is G(z - mean, spread) + P(z): what a shift of draw and mean together costs is the same for every mean.
        """
        model, core, n = self.bench.model, self.term.core, 4
        assert core is not None
        sizes = {**model.record.sizes, "B": n}
        for site in self.term.sites:
            if site.kind != "gaussian" or site.mu is None or site.mu not in model.flow.ancestors(core, stop={site.z}):
                continue
            heads = [*dict.fromkeys(h for s in self.term.sites for h in s.heads), *(s.z for s in self.term.sites), site.mu]
            held = {h: _random(model.replay.shape_of(h, sizes), 41 + k) for k, h in enumerate(heads)}
            held |= self._quiet(sizes)
            drawn = [site.z]
            drawn += [s.z for s in self.term.sites if s.mu in drawn]  # a second noise on the first
            costs = []
            for seed in (3, 4):
                mean = _random(model.replay.shape_of(site.mu, sizes), seed)
                both = [{site.mu: mean + by, **{z: held[z] + by for z in drawn}} for by in (0.0, 0.7)]
                try:
                    here, there = (model.replay([core], {**held, **put}, sizes)[core].double() for put in both)
                except ReplayError:
                    return False
                costs.append((there - here).sum())
            size = max(float(c.abs()) for c in costs)
            if float((costs[1] - costs[0]).abs()) > 1e-3 * size > 0:
                return True
        return False

    def _quiet(self, sizes: Mapping[str, int]) -> dict[fx.Node, torch.Tensor]:
        """The reconstruction at 0 where it is in the same sum: log p(x|z) + log p(z) - log q(z) has no value without it."""
        return {n: torch.zeros(self.bench.model.replay.shape_of(n, sizes), dtype=torch.float64) for n in self._likelihoods}

    @property
    def _likelihoods(self) -> set[fx.Node]:
        """The addends of reconstructions in the same sum: what the decoder does before them is no part of the estimate."""
        model = self.bench.model
        assert self.term.core is not None
        inside = model.flow.ancestors(self.term.core)
        return {leaf.node for term in model.terms_of("reconstruction") for leaf in term.leaves if leaf.node in inside}

    @cached_property
    def draws(self) -> int:
        """How many rows are run at once."""
        model = self.bench.model
        assert self.term.core is not None
        inside = [
            n for n in model.flow.ancestors(self.term.core, stop={h for s in self.term.sites for h in s.heads}) if "B" in model.dims(n)
        ]
        largest = max((math.prod(shape(n)[1:]) for n in inside if shape(n)), default=1)
        return min(_DRAWS, _LARGEST // largest)

    def logs(self, seed: int, size: float, put: Mapping[fx.Node, torch.Tensor] | None = None) -> torch.Tensor | None:
        """The logarithms of the weights of one posterior's draws; None where some are not finite.

        Args:
            seed: of the posterior and of its draws.
            size: how far the numbers of the encoder lie apart.
            put: further values that are exchanged.
        """
        model, core, n = self.bench.model, self.term.core, self.draws
        assert core is not None
        sizes = {**model.record.sizes, "B": n}
        generator = torch.Generator().manual_seed(31 + seed)
        overrides = {**self._quiet(sizes), **(put or {})}
        for head in dict.fromkeys(h for s in self.term.sites for h in s.heads):
            whole = model.replay.shape_of(head, sizes)
            row = put_out(head, size * torch.randn((1, *whole[1:]), dtype=torch.float64, generator=generator))
            overrides[head] = row.expand(whole).clone() if whole and whole[0] == n else size * torch.randn(whole, dtype=torch.float64)
        got = model.replay([core], overrides, sizes, seed=seed)[core]
        got = got[(0,) * (self._batch_axis or 0)]
        logs = -weight_sign(self.bench, core) * got.detach().double().reshape(n, -1).sum(1)
        return logs if bool(logs.isfinite().all()) else None

    def log_average(self, seed: int, size: float) -> tuple[float, float] | None:
        """log of the average weight of one posterior, and its standard error; None where few draws carry it."""
        logs = self.logs(seed, size)
        if logs is None:
            return None
        n, w = len(logs), (logs - logs.max()).exp()
        carried = float(w.sum() ** 2 / (w * w).sum()) / n
        if carried < _SHARE:
            return None
        return float(torch.logsumexp(logs, 0)) - math.log(n), float(w.std() / w.mean()) / math.sqrt(n)

    def apart(self) -> tuple[float, float] | None:
        """How far the averages of several posteriors lie apart (log), and how sure that is; None without enough posteriors."""
        if self.draws < 500:
            return None
        found = [got for k, size in enumerate(_POSTERIORS) if (got := self.log_average(k, size)) is not None]
        if len(found) < _FEWEST:
            return None
        values = [v for v, _ in found]
        return max(values) - min(values), max(e for _, e in found)


def _random(size: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _made_beside(bench: Bench, term: Term) -> Span | None:
    """Where the distribution is constructed whose density log q is, if z is drawn by hand beside it and not by the distribution itself."""
    flow, record = bench.model.flow, bench.model.record
    assert term.core is not None
    inside = flow.ancestors(term.core)
    if any(noise is s.z or span(noise) == span(s.z) for s in term.sites for noise in s.noise):
        return None
    read = inside & flow.data - flow.noisy
    made = [d for d in record.distributions if (own := set(d.parameters.values())) & read and own.isdisjoint(flow.noisy)]
    return made[0].stack[0] if len(made) == 1 else None


def _broken(bench: Bench, term: Term, apart: float, error: float) -> Broken:
    model = bench.model
    own = [leaf for leaf in term.leaves if leaf.role == "kl"]
    density = part_of(term, own, term.sites, model.flow).core if own else None
    place, read = model.where(density if density is not None else term.core), _made_beside(bench, term)
    found = Found(
        read or place,
        label="p / q averages to another number for each posterior",
        labels=model.labels((term.core, "the KL, estimated at the draw"), *((s.z, "drawn here") for s in term.sites[-1:])),
        why="log q is not the log-density of the sampler that draws z: the loss is minimised by the wrong posterior",
        help="take log q(z) from the distribution that z is drawn from, scale and change of variables included",
    )
    text = f"the averages differ by a factor of {math.exp(min(apart, 50.0)):.3g} between posteriors (standard error {100 * error:.2g} %)"
    return Broken("kl-formula", found, "p / q averages to one number, the same for every posterior", text)
