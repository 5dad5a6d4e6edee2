"""Law C3, for a KL that is estimated: log q(z) at a draw moves with the posterior's numbers as the density of that draw does.

Whatever the prior, log p(z) knows nothing of this posterior's numbers. So with z held, all that moves a term with them is log q, and for
z = m + s e, made element by element, that is -log|s| - ((z - m) / s)^2 / 2, of which m and s come from the model's own sampler.
Intervention: z is drawn and held, the posterior's numbers are moved, in many states. Where no weight makes the term's gradient that of the
sampler's log-density, the posterior is charged for another density than the one that it draws from.

Exempt: a density whose numbers are held on purpose (sticking the landing), one of a mixture or of all samples (a sum in a logarithm), a
density that reads other samples, closed forms that the draw only weighs, draws that are not made element by element, and a bent density (a
square of it, a bound).

Source: Roeder et al. 2017, Sticking the landing, eq. 4 to 6.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.loss.mended import mended_operation, said_of
from vaelint.anatomy.loss.terms import Term
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.estimators.charged import Charged
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.replay.replay import ReplayError, gradients
from vaelint.rule import Found

_BATCH = 3
_STATES = 8
_OFF = 0.05  # of the term's gradient: the arithmetic is exact to 1e-9
_MENDED = 1e-6
_NOTHING = 1e-9
_LOGS = frozenset({"log", "logsumexp", "logaddexp", "log2", "log_softmax"})

Values = dict[fx.Node, torch.Tensor]


@law(
    "log-q-is-of-the-draw",
    "log q(z) at a draw moves with the posterior's numbers as the density that it was drawn from does",
    covered=("VAE20", "VAE21", "VAE40", "VAE41", "VAE442"),
)
def log_q_is_of_the_draw(bench: Bench) -> Iterator[Broken]:
    """Densities of one draw that is made element by element of noise, among the terms that read the draw."""
    for charged in Charged.all_of(bench):
        score = _Score(bench, charged)
        if charged.site.kind != "gaussian" or not score.has_one_noise or score.is_of_a_sum:
            continue
        try:
            off = score.off() if score.is_of_the_distance else None
            if off is not None and off > _OFF:
                yield _broken(bench, score, off)
                return
        except ReplayError as error:
            raise CannotMeasureError(f"log q does not run by itself: {message_of(error)}") from error


@dataclass(frozen=True)
class _Score:
    """What a density of a draw pulls at the posterior's numbers with, the draw held."""

    bench: Bench
    charged: Charged

    @property
    def sizes(self) -> dict[str, int]:
        return {**self.bench.model.record.sizes, "B": _BATCH}

    @property
    def has_one_noise(self) -> bool:
        """Whether one noise alone makes the draw of the posterior's numbers: a low-rank covariance takes two."""
        site, flow = self.charged.site, self.bench.model.flow
        return [*(flow.ancestors(site.z, stop=set(site.heads)) & flow.random)] == [*site.noise]

    @property
    def is_of_a_sum(self) -> bool:
        """Whether a logarithm is taken of a sum, as of a mixture's parts, on the way from the draw to the density."""
        flow = self.bench.model.flow
        way = flow.ancestors(self.charged.density) & flow.descendants(self.charged.site.z) | {self.charged.density}
        sums = flow.descendants(*(n for n in way if ops.op(n) in ops.REDUCE)) & way
        return any(ops.op(n) in _LOGS for n in sums) or any(ops.op(n) in ("logsumexp", "logaddexp") for n in way)

    @property
    def is_of_the_distance(self) -> bool:
        """Whether draw and mean moved together leave the value: closed forms that the draw only weighs (VaDE) cost another one."""
        site, replay, density = self.charged.site, self.bench.model.replay, self.charged.density
        if site.mu is None or site.mu not in self.bench.model.flow.ancestors(density, stop={site.z}):
            return False
        heads = self._heads(0)
        z, mean = self._drawn(heads, self._noise(0)).detach(), replay([site.mu], {**self._held, **heads}, self.sizes)[site.mu].detach()
        places = [{site.z: z + by, site.mu: mean + by} for by in (0.0, 0.7)]
        here, there = (replay([density], {**self._held, **heads, **put}, self.sizes)[density].detach() for put in places)
        return torch.allclose(here, there)

    def off(self) -> float | None:
        """By what share of itself the density's gradient parts from the draw's own; None where that cannot be told."""
        claimed, true = [], []
        for seed in range(_STATES):
            heads = self._heads(seed)
            z = self._drawn(heads, self._noise(seed))
            found, own = self._claimed(heads, z), self._true(heads, z)
            if found is None or own is None or (seed == 0 and self._reads_others(heads, z, found)):
                return None
            claimed.append(found)
            true.append(own)
        pull, of_draw = torch.stack(claimed), torch.stack(true)
        used = (of_draw != 0).any(0) & (pull != 0).any(0)
        pull, of_draw = pull[:, used], of_draw[:, used]
        if not float(pull.norm()) > _NOTHING or not bool(pull.isfinite().all() and of_draw.isfinite().all()):
            return None
        weight = (pull * of_draw).sum(0) / of_draw.square().sum(0)
        return float((pull - weight * of_draw).norm() / pull.norm())

    def _heads(self, seed: int) -> Values:
        generator, replay = torch.Generator().manual_seed(60 + seed), self.bench.model.replay
        return {
            h: 0.5 * torch.randn(replay.shape_of(h, self.sizes), dtype=torch.float64, generator=generator) for h in self.charged.site.heads
        }

    def _noise(self, seed: int) -> torch.Tensor:
        shape = self.bench.model.replay.shape_of(self.charged.site.noise[0], self.sizes)
        return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(160 + seed))

    def _drawn(self, heads: Values, noise: torch.Tensor) -> torch.Tensor:
        z, (eps,) = self.charged.site.z, self.charged.site.noise
        made: torch.Tensor = self.bench.model.replay([z], {**self._held, **heads, eps: noise}, self.sizes, attached=True)[z]
        return made

    @property
    def _held(self) -> Values:
        """What the density and the draw read beside this posterior: a prior's numbers, other draws."""
        site, replay = self.charged.site, self.bench.model.replay
        front = {f for leaf in self.charged.leaves for f in leaf.frontier} - {site.z, *site.heads}
        return {
            f: torch.full(replay.shape_of(f, self.sizes), 0.3, dtype=torch.float64) for f in front if f in self.bench.model.flow.learned
        }

    def _claimed(self, heads: Values, z: torch.Tensor) -> torch.Tensor | None:
        """The gradient of the density as it is written; None where it holds the posterior's numbers."""
        leaves = {h: v.clone().requires_grad_() for h, v in heads.items()}
        given = {**self._held, **{h: v.clone() for h, v in leaves.items()}, self.charged.site.z: z.detach()}
        out = self.bench.model.replay([self.charged.density], given, self.sizes)[self.charged.density]
        if not out.requires_grad:
            return None
        return _flat(gradients(out, list(leaves.values())), leaves)

    def _true(self, heads: Values, z: torch.Tensor) -> torch.Tensor | None:
        """That of the log-density of the draw; None where the draw is not m + s e, element by element."""
        leaves = {h: v.clone().requires_grad_() for h, v in heads.items()}
        inside = {h: v.clone() for h, v in leaves.items()}
        noise = self._noise(999)
        middle, one, other = (self._drawn(inside, e) for e in (0 * noise, 0 * noise + 1, noise))
        spread = one - middle
        if middle.shape != noise.shape or not torch.allclose(middle + spread * noise, other) or not spread.requires_grad:
            return None
        log_density = -spread.abs().log() - 0.5 * ((z.detach() - middle) / spread).square()
        return _flat(gradients(log_density, list(leaves.values())), leaves)

    def _reads_others(self, heads: Values, z: torch.Tensor, before: torch.Tensor) -> bool:
        """Whether another draw in the first row pulls at the numbers of other rows."""
        moved = z.detach().clone()
        moved[0] += 1.0
        after = self._claimed(heads, moved)
        start, apart = 0, []
        for h, v in heads.items():
            part = slice(start, start + v.numel())
            start += v.numel()
            if after is not None and self.bench.batch_axis(h) == 0:
                apart.append((after[part] - before[part]).reshape(v.shape)[1:].abs().max())
        return len(apart) < len(heads) or float(torch.stack(apart).max()) > _NOTHING


def _flat(found: list[torch.Tensor | None], leaves: Values) -> torch.Tensor:
    return torch.cat([(torch.zeros_like(v) if g is None else g).flatten() for g, v in zip(found, leaves.values(), strict=True)]).detach()


def _broken(bench: Bench, score: _Score, off: float) -> Broken:
    model, charged = bench.model, score.charged
    site = charged.site

    def holds() -> bool:
        again = score.off()
        return again is not None and again < _MENDED

    mended = mended_operation(model, Term("kl", list(charged.leaves)), {site.z, *site.heads}, holds)
    found = Found(
        charged.place if mended is None else model.where(mended.node),
        label="not the log-density that z is drawn from" if mended is None else said_of(model, mended, "it is the draw's log-density"),
        labels=model.labels((site.z, f"drawn here: {model.written(site.z)}")),
        why="the posterior is charged for another density than the one that it draws from: the loss bounds nothing, and its best posterior "
        "is a wrong one",
        help="log q(z) = -log s - ((z - m) / s)^2 / 2 - log(2 pi) / 2 with the m and s of the draw: Normal(m, s).log_prob(z)",
    )
    text = f"with z held, {100 * off:.2g} % of its gradient is not that of the draw's log-density, whatever its weight"
    return Broken("kl-formula", found, "the gradients agree in all states, up to one weight", text)
