"""Law C1, for a scale that is made of the error itself: it is the one at which the loss is lowest.

Intervention: the mean error that a scale is made of is moved, the errors held. A likelihood with the scale's own logarithm is least where
the scale is that of the errors; where it is not, the error is weighed by something else than its size. Where no logarithm is left and
the scale passes its gradient, the term does not move with the reconstruction at all.

Source: Rybkin et al. 2021, Simple and effective VAE training with calibrated decoders, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from itertools import combinations, pairwise

import torch
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.terms import Term
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.record.walk import behind
from vaelint.replay.replay import ReplayError, gradients
from vaelint.rule import Found

_VARIANCES = (0.03, 0.2, 3.0, 12.0)  # of the errors that are tried
_FEWEST = 3  # of them must tell, and tell the same
_SAMPLES = 5
_LARGEST = 200_000  # errors
_MOST = 12  # values that may be the scale
_STRAIGHT = 0.05  # of a power law: small numbers are added for safety
_EXACT = 1e-6  # of a power
_OFF = 0.6  # in octaves of the mean error: errors are no perfect draws, and there are several means
_VIEWS = ops.SHAPE | ops.CAST
_ADDS = ops.ADD | ops.JOIN


@law(
    "scales-fit-their-error",
    "a scale that is made of the error is the one at which the loss is lowest",
    covered=("VAE310", "VAE311", "VAE331"),
    cost="replay",
)
def scales_fit_their_error(bench: Bench) -> Iterator[Broken]:
    """Squared and absolute errors, divided by a mean of themselves.

    Exempt: scales without a logarithm that are held (the error is weighed by its size), means that a bound or a prior keeps from following
    the error, and terms whose gradient is that of the density whatever the scale is: of -n log of the error's size, for n elements.
    """
    reasons: list[str] = []
    for scale in _scales(bench):
        try:
            broken = _asked(bench, scale)
        except ReplayError as error:
            reasons.append(message_of(error))
            continue
        if broken is not None:
            yield broken
            return
    if reasons:
        raise CannotMeasureError(f"the likelihood does not run by itself: {reasons[0]}")


@dataclass(frozen=True)
class _Moved:
    """What one size of the errors shows."""

    falls: float  # the power of the mean error that the error is divided by
    pull: float  # of the errors, where the mean error is their own
    log: float  # what the rest of the term rises by, for each factor e of the mean error
    total: float  # what the whole term rises by, for each factor e of the errors

    @property
    def octaves(self) -> float:
        """How far above its own value the mean error would have to be for the loss to be lowest."""
        return math.log2(self.falls * self.pull / self.log) / self.falls


@dataclass(frozen=True)
class _Scale:
    """A mean of the errors that the errors are divided by."""

    bench: Bench
    fact: ReconFact
    recon: fx.Node  # what all of it is made of
    mean: fx.Node

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The recorded sizes, with a few samples."""
        return {**self.bench.model.symbols, "B": _SAMPLES}

    @cached_property
    def _others(self) -> dict[fx.Node, torch.Tensor]:
        model = self.bench.model
        leaves = [leaf for t in model.terms if t.role == "reconstruction" for leaf in t.leaves]
        return silence_others(Term("reconstruction", leaves), model.replay, self.sizes)

    @cached_property
    def _target(self) -> torch.Tensor:
        target, replay = self.fact.pair.target, self.bench.model.replay
        assert target is not None
        found: torch.Tensor = replay([target], {}, self.sizes)[target].double()
        if found.numel() != math.prod(replay.shape_of(self.recon, self.sizes)) or found.numel() > _LARGEST:
            raise ReplayError("the errors cannot be laid out")
        return found

    def mean_of(self, errors: torch.Tensor) -> torch.Tensor:
        """The mean of some errors. Raises ReplayError."""
        given = {**self._others, self.recon: self._decoded(errors)}
        found: torch.Tensor = self.bench.model.replay([self.mean], given, self.sizes)[self.mean]
        return found

    def _decoded(self, errors: torch.Tensor) -> torch.Tensor:
        whole = self.bench.model.replay.shape_of(self.recon, self.sizes)
        return (self._target.flatten() + errors).reshape(whole)

    def cost(self, errors: torch.Tensor, mean: torch.Tensor | None = None) -> torch.Tensor:
        """The reconstruction's share of the loss; with a mean, that of other errors. Raises ReplayError."""
        loss, given = self.bench.model.record.loss, {**self._others, self.recon: self._decoded(errors)}
        assert loss is not None
        if mean is not None:
            given[self.mean] = mean.detach().clone()
        out: torch.Tensor = self.bench.model.replay([loss], given, self.sizes)[loss]
        return out.sum()

    def moved(self, errors: torch.Tensor) -> _Moved | None:
        """What errors of this size show; None where the mean is no scale of a squared or absolute error, or a bound holds it."""
        own, none = self.mean_of(errors), torch.zeros_like(errors)
        grows = [float((self.mean_of(k * errors) / own).double().log2().mean()) / math.log2(k) for k in (2.0, 4.0)]
        if not all(map(math.isfinite, grows)) or round(grows[0]) < 1 or max(abs(g - round(grows[0])) for g in grows) > _EXACT:
            return None
        bare = [float(self.cost(none, k * own)) for k in (0.5, 1.0, 2.0)]
        pulls = [float(self.cost(errors, k * own)) - b for k, b in zip((0.5, 1.0, 2.0), bare, strict=True)]
        twice = float(self.cost(2 * errors, own)) - bare[1]
        if not all(p > 0 and math.isfinite(p) for p in (*pulls, twice)) or not all(map(math.isfinite, bare)):
            return None
        falls = [math.log2(a / b) for a, b in pairwise(pulls)]
        logs = [(b - a) / math.log(2.0) for a, b in pairwise(bare)]
        power = math.log2(twice / pulls[1])
        if round(power) not in (1, 2) or abs(power - round(power)) > _EXACT or falls[0] < _STRAIGHT or not _is_even(falls, logs):
            return None
        return _Moved(falls[0], pulls[1], logs[0], self._total(errors))

    def _total(self, errors: torch.Tensor) -> float:
        """As training moves it: what is held is held."""
        size = torch.ones((), dtype=torch.float64, requires_grad=True)
        cost = self.cost(size * errors)
        slope = gradients(cost, [size])[0] if cost.requires_grad else None
        return float(slope) if slope is not None else 0.0


def _is_even(*rates: list[float]) -> bool:
    """Whether each pair of rates is one rate."""
    return all(abs(one - other) <= _STRAIGHT * abs(one) for one, other in rates)


def _scales(bench: Bench) -> Iterator[_Scale]:
    """Values that many errors are made one of, and that meet the errors again otherwise than in a sum."""
    model, flow, seen = bench.model, bench.model.flow, set[fx.Node]()
    leaves = [leaf for t in model.terms if t.role == "reconstruction" for leaf in t.leaves]
    inside = flow.ancestors(*(n for leaf in leaves for n in (leaf.node, *leaf.chain)))
    for fact in model.recons:
        recon = behind(fact.pair.recon, _VIEWS)
        if fact.pair.target is None or recon in seen or model.record.loss is None:
            continue
        seen.add(recon)
        between = inside & flow.descendants(recon) & flow.descendants(*flow.ancestors(fact.pair.target) & flow.data)
        small = [n for n in flow.sorted(between) if 4 * math.prod(shape(n)) <= math.prod(shape(recon)) and bench.is_real(n)]
        meeting = [n for n in small if _meets_again(bench, n, between)]
        yield from (_Scale(bench, fact, recon, n) for n in meeting[:_MOST])


def _meets_again(bench: Bench, mean: fx.Node, between: set[fx.Node]) -> bool:
    """Whether an operation other than a sum reads what was made of the mean, and of the errors without it."""
    below = bench.model.flow.descendants(mean)
    for node in below & between:
        made = [i for i in ops.value_inputs(node) if i in between]
        if ops.op(node) not in _ADDS and any(i in below for i in made) and any(i not in below for i in made):
            return True
    return False


def _asked(bench: Bench, scale: _Scale) -> Broken | None:
    """The law at several sizes of the errors, and for errors of two families: a scale may be made of another of their moments."""
    count = math.prod(bench.model.replay.shape_of(scale.recon, scale.sizes))
    found: list[list[_Moved]] = []
    for errors in _families(count):
        at = [m for v in _VARIANCES if (m := scale.moved(math.sqrt(v) * errors)) is not None]
        if len(at) < _FEWEST:
            return None
        found.append(at)
    if all(abs(m.log) <= _STRAIGHT * m.pull for at in found for m in at):
        still = all(abs(m.total) <= _STRAIGHT * m.pull for at in found for m in at)
        return _broken(bench, scale, "", None) if still else None
    if any(m.log <= 0 for at in found for m in at) or any(_is_density(scale, at) for at in found):
        return None
    off = [[m.octaves for m in at if abs(m.octaves) > _OFF] for at in found]
    if any(len(o) < _FEWEST for o in off):
        return None
    middle = sorted(off[0])[len(off[0]) // 2]
    return _broken(bench, scale, f"the loss is lowest where the mean error is {2**middle:.2g} times what it is", middle)


def _is_density(scale: _Scale, at: list[_Moved]) -> bool:
    """Whether the term's gradient is that of -n log of the error's size for the n elements of a sample, or of its mean."""
    sizes = [n for n in scale.bench.model.replay.shape_of(scale.fact.pair.recon, scale.sizes) if n > 1]
    products = {math.prod(some) for k in range(len(sizes) + 1) for some in combinations(sizes, k)}
    return all(any(abs(m.total - n) <= _STRAIGHT * n for n in products) for m in at)


def _families(count: int) -> Iterator[torch.Tensor]:
    """Errors of variance 1, of a normal and of a Laplace law, in some order."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(5))
    share = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    normal = torch.special.ndtri(share)
    laplace = -(share - 0.5).sign() * torch.log1p(-2 * (share - 0.5).abs()) / math.sqrt(2)
    yield from (e[order] / e.square().mean().sqrt() for e in (normal, laplace))


def _broken(bench: Bench, scale: _Scale, text: str, off: float | None) -> Broken:
    model = bench.model
    flow = model.flow
    logs = [
        n for n in flow.sorted(flow.descendants(scale.mean)) if ops.op(n) == "log" and math.prod(shape(n)) <= math.prod(shape(scale.mean))
    ]
    at = logs[0] if logs and off is not None else scale.fact.pair.leaf.node
    label = "this scale is not the one at which the loss is lowest" if off is not None else "the logarithm of the scale is missing"
    found = Found(
        model.where(at) or model.where(scale.fact.pair.meet),
        label=label,
        labels=model.labels((scale.mean, "the mean error"), (scale.fact.pair.meet, "compared with the data here")),
        why="the error is weighed by something else than its own size: how much the reconstruction counts against the KL is arbitrary"
        if off is not None
        else "the error is divided by its own mean, and what is left does not move: nothing makes the reconstruction resemble the data",
        help="for s^2 the mean squared error, e^2 / (2 s^2) + log s; for b the mean absolute error, |e| / b + log(2 b)",
    )
    text = text or "the term does not move with the size of the errors"
    return Broken("likelihood-not-normalised", found, "over the scale, the errors held, the term is least at the scale of the errors", text)
