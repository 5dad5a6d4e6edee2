"""Law C3, for posteriors that are mixtures: the density of draws from each component is a mixture of the components' own densities, whose
weights add up to one number.

Where log q(z) is a log-sum-exp over as many components as are drawn from, exp(log q) is worked out at values among the components, for
several posteriors, and written as a sum of the components' densities: these are known from the draws, z = mean + scale * eps. Prediction:
the sum leaves nothing over, and its coefficients add up to one number for every posterior. Something is left over where the log-sum-exp
runs over the components of each latent by itself (a product of mixtures), and the coefficients add up to another number where weights
stand for their logarithms.

Exempt are mixtures of more than the components that are drawn from (a prior beside the experts), aggregates over the batch, and draws that
are not Gaussian.

Source: Shi et al. 2019, Variational mixture-of-experts autoencoders, eq. 2 and 3; Morningstar et al. 2021, Automatic differentiation
variational inference with mixtures, eq. 5.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.posterior.sites import Site
from vaelint.core.messages import message_of
from vaelint.core.reach import reachable
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.moments.put_out import put_out
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_POSTERIORS = 4
_ROWS = 40  # values of z for each
_SIZE = 0.6  # how far the numbers of the encoder lie apart
_OFF = 1e-3
_ADDED = ops.ADD | ops.SHAPE | ops.CAST | {"sum", "detach"}

Components = list[tuple[torch.Tensor, torch.Tensor]]


@law(
    "mixtures-are-of-their-draws",
    "the density of draws from several components is the mixture of these, with weights that add up to one number",
    covered=("VAE20", "VAE40", "VAE418", "VAE421", "VAE422", "VAE423", "VAE433"),
    cost="replay",
)
def mixtures_are_of_their_draws(bench: Bench) -> Iterator[Broken]:
    """Each log-sum-exp over the components of Gaussian draws."""
    reasons: list[str] = []
    for mixture in _mixtures(bench):
        try:
            told = mixture.fault()
        except ReplayError as error:
            reasons.append(message_of(error))
            continue
        if told is not None:
            yield _broken(bench, mixture, *told)
            return
    if reasons:
        raise CannotMeasureError(f"log q does not run by itself: {reasons[0]}")


@dataclass(frozen=True)
class Mixture:
    """log q(z) of draws from several components: the log-sum-exp over these, and log q itself, one number for each draw."""

    bench: Bench
    sites: tuple[Site, ...]
    log_sum: fx.Node
    log_q: fx.Node
    read: Site  # whose draw it is taken at

    def fault(self) -> tuple[str, bool] | None:
        """What the coefficients are, and whether they leave something over; None where all is well, or cannot be told."""
        replay, rows = self.bench.model.replay, _POSTERIORS * _ROWS
        sizes = {**self.bench.model.record.sizes, "B": rows}
        given = self._given(sizes)
        nodes = [n for s in self.sites for n in (s.mu, s.scale) if n is not None]
        got = replay([self.read.z, *nodes], given, sizes, seed=5)
        z = 1.2 * torch.randn(got[self.read.z].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
        logs = replay([self.log_q], {**given, self.read.z: z}, sizes, seed=5)[self.log_q].detach().double()
        width, axis = z.shape[-1], self.bench.batch_axis(self.read.z)
        if axis is None or logs.numel() * width != z.numel():
            return None
        z, logs = z.movedim(axis, 0).reshape(rows, -1, width), logs.reshape(z.shape[:-1]).movedim(axis, 0).reshape(rows, -1)
        found = [self._fitted(z, logs, self._components(got, k), k) for k in range(_POSTERIORS)]
        if any(f is None for f in found):
            return None
        left, totals = max(f[0] for f in found if f), [f[1] for f in found if f]
        if left > _OFF:
            return f"written as a sum of the components' densities, {100 * min(left, 1.0):.2g} % of it are left over", True
        apart = math.log(max(totals) / min(totals)) if min(totals) > 0 else math.inf
        text = f"its weights add up to {min(totals):.3g} for one posterior, and to {max(totals):.3g} for another, up to one factor"
        return (text, False) if apart > _OFF else None

    def _given(self, sizes: dict[str, int]) -> dict[fx.Node, torch.Tensor]:
        """Values of all that log q is made of beside the draws: the same for all rows of one posterior."""
        flow, replay = self.bench.model.flow, self.bench.model.replay
        draws = {s.z for s in self.sites}
        heads = {h for s in self.sites for h in s.heads}
        behind = flow.ancestors(self.log_q, stop=heads | draws)
        layers = {n for n in behind - heads - draws if ops.uses_parameter(n) and n in flow.data}
        generator = torch.Generator().manual_seed(9)
        given = {}
        for node in flow.sorted(heads | layers):
            whole = replay.shape_of(node, sizes)
            if not whole or whole[0] != sizes["B"]:
                raise ReplayError("a posterior has no row for each sample")
            drawn = _SIZE * torch.randn((_POSTERIORS, *whole[1:]), dtype=torch.float64, generator=generator)
            given[node] = put_out(node, drawn).repeat_interleave(_ROWS, 0)
        return given

    def _components(self, got: dict[fx.Node, torch.Tensor], posterior: int) -> Components:
        """Mean and scale of each component of one posterior."""
        found = []
        for site in self.sites:
            assert site.mu is not None and site.scale is not None
            mean, scale = (got[n].detach().double() for n in (site.mu, site.scale))
            mean, scale = torch.broadcast_tensors(mean, scale)  # type: ignore[no-untyped-call]
            row = [v[posterior * _ROWS].reshape(-1, v.shape[-1]) for v in (mean, scale)]
            found += list(zip(*row, strict=True))
        return found

    @staticmethod
    def _fitted(z: torch.Tensor, logs: torch.Tensor, components: Components, posterior: int) -> tuple[float, float] | None:
        """What is left over, relative to the whole, and the sum of the coefficients."""
        rows = slice(posterior * _ROWS, (posterior + 1) * _ROWS)
        at, log_q = z[rows].reshape(-1, z.shape[-1]), logs[rows].reshape(-1)
        each = torch.stack(
            [(-0.5 * ((at - m) / s).square() - s.abs().log() - 0.5 * math.log(2 * math.pi)).sum(-1) for m, s in components], 1
        )
        whole = each.logsumexp(1)
        # q / (q_1 + ... + q_K) lies between the least and the largest weight
        design, wanted = (each - whole[:, None]).exp(), (log_q - whole)
        wanted = (wanted - wanted.median()).exp() if bool(log_q.isfinite().all()) else wanted * math.nan
        if not bool(wanted.isfinite().all()) or float(torch.linalg.cond(design)) > 1e4:
            return None
        weights = torch.linalg.lstsq(design, wanted[:, None]).solution.flatten()
        left = float((design @ weights - wanted).abs().max() / wanted.abs().max())
        return left, float(weights.sum()) * math.exp(float((log_q - whole).median()))


def _mixtures(bench: Bench) -> Iterator[Mixture]:
    model, flow = bench.model, bench.model.flow
    drawn = [s for s in model.sites if s.kind in ("gaussian", "drawn") and s.mu is not None and s.scale is not None]
    sites = [s for s in drawn if _is_plain(bench, s)]
    for node in flow.order:
        if ops.op(node) != "logsumexp" or node not in flow.noisy or bench.is_of_pairs(node):
            continue
        behind = flow.ancestors(node, stop={h for s in sites for h in s.heads})
        makers = {(s.mu, s.scale): s for s in sites if s.mu in flow.ancestors(node, stop={s.z}) and set(s.heads) & behind}
        own = tuple(makers.values())  # several draws of one posterior are one component
        read = [s for s in sites if s.z in flow.ancestors(node)]
        summed = ops.value_inputs(node)[0]
        count = math.prod(shape(summed)) // max(math.prod(shape(node)), 1)
        if len(read) != 1 or (read[0].mu, read[0].scale) not in makers or count < 2 or count != sum(_parts(bench, s) for s in own):
            continue
        if any(sum("B" in t for t in model.dims(n)) > 1 for n in behind if bench.is_real(n)):
            continue
        whole = _of_one_draw(bench, node, read[0])
        if whole is not None:
            yield Mixture(bench, own, node, whole, read[0])


def _is_plain(bench: Bench, site: Site) -> bool:
    """Whether a draw is mean + scale * eps, element by element, as a run of the slice shows."""
    replay, sizes = bench.model.replay, {**bench.model.record.sizes, "B": 8}
    if site.mu is None or site.scale is None or len(site.noise) != 1 or len(shape(site.z)) < 2:
        return False
    try:
        got = replay([site.z, site.mu, site.scale, site.noise[0]], {}, sizes, seed=2)
        z, mean, scale, noise = (got[n].double() for n in (site.z, site.mu, site.scale, site.noise[0]))
        plain = mean + scale * noise
    except (ReplayError, RuntimeError):
        return False
    return plain.shape == z.shape and torch.allclose(plain, z, rtol=1e-4, atol=1e-5) and 0.5 < float(noise.std()) < 2.0


def _parts(bench: Bench, site: Site) -> int:
    """How many components a draw has: those of the sizes between the sample's axis and the latent's that its mean has too."""
    assert site.mu is not None
    return math.prod(shape(site.mu)[1:-1]) if bench.batch_axis(site.mu) == 0 else 0


def _of_one_draw(bench: Bench, node: fx.Node, site: Site) -> fx.Node | None:
    """What the log-sum-exp becomes by sums with what is no draw, with one number for each draw."""
    flow, wanted = bench.model.flow, math.prod(shape(site.z)) // max(shape(site.z)[-1], 1)
    made = reachable([node], lambda n: [u for u in flow.users.get(n, ()) if ops.op(u) in _ADDED and _adds_constants(bench, u, n)])
    return next((n for n in flow.sorted(made) if math.prod(shape(n)) == wanted and shape(n)[-1:] != shape(site.z)[-1:]), None) or next(
        (n for n in flow.sorted(made) if math.prod(shape(n)) == wanted), None
    )


def _adds_constants(bench: Bench, node: fx.Node, way: fx.Node) -> bool:
    """Whether nothing but numbers is added to a value, and it is not subtracted from one."""
    flow = bench.model.flow
    others = [i for i in ops.value_inputs(node) if i is not way]
    return not any(i in flow.data or i in flow.learned for i in others) and (not node.args or node.args[0] is way)


def _broken(bench: Bench, mixture: Mixture, text: str, is_left: bool) -> Broken:
    model = bench.model
    found = Found(
        model.where(mixture.log_sum),
        label="not the density of the mixture that z is drawn from",
        labels=model.labels((mixture.read.z, "drawn from one of its components here")),
        why="z is drawn from a mixture of densities of whole codes, and charged for another one: the bound holds for no posterior"
        if is_left
        else "weights that do not add up to one make log q as large as one likes: the bound holds for no posterior",
        help="log q(z) = logsumexp over the components of (log weight + log q_k(z)), log q_k(z) summed over the latent before, and the "
        "weights in logarithms: log_softmax, or minus log of their number",
    )
    return Broken("kl-formula", found, "log q is the log-density of a mixture of the components that are drawn from", text)
