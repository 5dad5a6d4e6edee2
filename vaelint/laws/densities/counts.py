"""Law C2, for counts: what is expected follows the exposure, and is what the decoder calls its mean.

Interventions: a library size, or another total that the likelihood has from the data itself, is doubled and squared; the mean of the
likelihood is added up over all counts. It doubles with the total. Where there is no total, the mean is compared with what the decoder puts
out: a negative binomial whose mean is r^2 / m for one of its values m has its probabilities exchanged.

Source: Lopez et al. 2018, Deep generative modeling for single-cell transcriptomics, eq. 1 to 6: x ~ NB(mean l * rho, dispersion).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property

import torch
from torch import fx

from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.densities.elementwise import Elementwise
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.record.walk import behind
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_TOTAL = 20.0
_FALLS = -0.1
_LOG = 0.03
_STILL, _SLOW = 0.05, 0.8  # powers of all counts: a total of proportions is 0, one of counts 1
_EQUAL = 1e-4
_FEWEST = 4
_COUNTS = 3000


@law(
    "counts-follow-their-exposure",
    "the expected count doubles with a total of the counts, and is what the decoder calls its mean",
    covered=("VAE310", "VAE318", "VAE331", "VAE333"),
    cost="replay",
)
def counts_follow_their_exposure(bench: Bench) -> Iterator[Broken]:
    """Likelihoods of counts, not of classes. Totals that pass a layer are covariates, and may do what they like."""
    reasons: list[str] = []
    for one in Elementwise.all_of(bench):
        if one.is_detached or one.has_data_elsewhere or not one.learns_its_spread:
            continue
        try:
            counted = Counted(one)
            if counted.log_mass is not None:
                yield from _totals(bench, counted)
                yield from _exchanged(bench, counted)
        except ReplayError as error:
            reasons.append(message_of(error))
    if reasons:
        raise CannotMeasureError(f"the likelihood does not run by itself: {reasons[0]}")


@dataclass(frozen=True)
class Counted:
    """A likelihood over counts, and its moments."""

    one: Elementwise

    @cached_property
    def points(self) -> torch.Tensor:
        """All counts that are added up."""
        elements = math.prod(shape(self.one.at.target)[1:])
        return torch.arange(0, max(200, min(_COUNTS, 2_000_000 // elements)), dtype=torch.float64)

    @cached_property
    def log_mass(self) -> torch.Tensor | None:
        """What each count is worth in the sum: 1, or 1/x! where the term leaves it out; None where this is no density of counts."""
        for mass in (torch.zeros_like(self.points), -torch.lgamma(self.points + 1)):
            curve = self.one.over(self.points)[self.one.core]
            logs = mass[:, None] - curve
            z = torch.logsumexp(logs, 0)
            kept = z[(logs[-1] - z < -12) & z.isfinite()]
            if kept.numel() >= _FEWEST and float(kept.max() - kept.min()) < 1e-3:
                return mass
        return None

    def moments(self, total: dict[fx.Node, float] | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mean and variance of each element, and which of them can be trusted."""
        assert self.log_mass is not None
        curve = self.one.over(self.points, given=total)[self.one.core]
        logs = self.log_mass[:, None] - curve
        p = logs.softmax(0)
        mean = (p * self.points[:, None]).sum(0)
        variance = (p * (self.points[:, None] - mean) ** 2).sum(0)
        return mean, variance, (p[-1] * self.points[-1] ** 2 < 1e-9) & mean.isfinite()


def _totals(bench: Bench, counted: Counted) -> Iterator[Broken]:
    for condition in counted.one.at.conditions:
        root = behind(condition, ops.POINTWISE | ops.SHAPE)
        if ops.op(root) not in ops.LINEAR_REDUCE or counted.one.at.target not in bench.model.flow.descendants(*_inputs(bench, root)):
            continue
        once, twice, squared = (counted.moments({root: value}) for value in (_TOTAL, 2 * _TOTAL, _TOTAL**2))
        good = once[2] & twice[2] & squared[2]
        if int(good.sum()) < _FEWEST:
            continue
        power = float((twice[0] / once[0])[good].log2().median())
        by_square = float((squared[0] / once[0])[good].median())
        if power < _FALLS:
            node = _first(counted, root, lambda a, b, _: bool((b < a).double().mean() > 0.9))
            text = f"doubling the total changes the expected count by a factor of {2**power:.3g}"
            yield _off(bench, node or counted.one.core, root, "falls where the total grows", text)
            return
        if power < 0.7 and abs(by_square - 2) < _LOG:
            node = _first(
                counted, root, lambda a, b, c: bool(((c / a - 2).abs() < _LOG).all()) and not bool((b / a - 2).abs().max() < _LOG)
            )
            text = "squaring the total doubles the expected count"
            yield _logarithm(bench, counted, node, root, text)
            return
        if abs(power - 1) < _LOG and (degree := _degree(bench, counted, root)) is not None and _STILL < degree < _SLOW:
            yield _of_no_counts(bench, root, degree)
            return


def _degree(bench: Bench, counted: Counted, root: fx.Node) -> float | None:
    """The power of all counts that a total goes with; None where the likelihood's data are not the counts as they came.

    A size factor of any kind (sum, mean, median of ratios) doubles with all counts of a sample.
    """
    model, target = bench.model, counted.one.at.target
    sizes, generator = dict(model.record.sizes), torch.Generator().manual_seed(5)
    given = {
        n: torch.randint(20, 60, model.replay.shape_of(n, sizes), generator=generator).double()
        for n in _inputs(bench, root) & _inputs(bench, target)
    }
    once, twice = (model.replay([root, target], {n: far * v for n, v in given.items()}, sizes) for far in (1.0, 2.0))
    if not torch.allclose(twice[target].double(), 2 * once[target].double()):
        return None
    return float((twice[root].double() / once[root].double()).log2().median())


def _of_no_counts(bench: Bench, root: fx.Node, degree: float) -> Broken:
    model = bench.model
    found = Found(
        model.where(root),
        label="is added up of values that do not double with the counts",
        labels=model.labels((_bent(bench, root), "from here on they do not")),
        why="the expected count is in proportion to it: samples with many counts are predicted to have too few, and no share can "
        "make up for it",
        help="take the total of the counts themselves, before the encoder gets their logarithm",
    )
    text = f"where all counts of a sample double, its total grows by a factor of {2**degree:.3g}"
    return Broken("count-mean-inverted", found, "the expected count doubles with the counts", text)


def _bent(bench: Bench, root: fx.Node) -> fx.Node | None:
    """Where a function that is no product is taken of the counts."""
    flow = bench.model.flow
    data = set(bench.model.record.inputs.values())
    bends = [
        n for n in flow.sorted(flow.ancestors(root)) if data & flow.ancestors(n) and ops.op(n) in ("log1p", "log", "sqrt", "log2", "log10")
    ]
    return bends[-1] if bends else None


def _logarithm(bench: Bench, counted: Counted, log: fx.Node | None, root: fx.Node, text: str) -> Broken:
    """Named where the logarithm is taken; one that another function takes, where it meets what was decoded."""
    flow, source = bench.model.flow, bench.model.source
    met = None
    if log is not None:
        met = next((n for n in flow.sorted(flow.descendants(log) & counted.one.inside) if n in flow.noisy and n is not log), None)
    if log is not None and met is not None:
        taken, used = (bench.model.where(n) for n in (log, met))
        if taken is not None and used is not None and source.function(taken) is not source.function(used):
            label = "is made of the logarithm of the total, where the total itself is to be"
            return _off(bench, met, root, label, text, (log, "the logarithm is taken here"))
    return _off(bench, log or counted.one.core, root, "is the logarithm of the total, where the total itself is to be", text)


def _inputs(bench: Bench, node: fx.Node) -> set[fx.Node]:
    return bench.model.flow.ancestors(node) & set(bench.model.record.inputs.values())


def _first(counted: Counted, root: fx.Node, moved: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], bool]) -> fx.Node | None:
    """The first value between a total and the term that moves in this way at a total of 20, 40 and 400."""
    one, flow = counted.one, counted.one.bench.model.flow
    ends = {*one.at.raw, *one.at.parameters}
    way = [n for n in flow.sorted(one.inside | set(one.at.conditions)) if root in flow.ancestors(n, stop=ends | {one.at.target})]
    way = [n for n in way if n is not root and one.at.target not in flow.ancestors(n, stop=ends | {root}) and one.bench.is_real(n)]
    points = counted.points[:3]
    at = [one.over(points, given={root: value}, more=way) for value in (_TOTAL, 2 * _TOTAL, _TOTAL**2)]
    return next((n for n in way if all(isinstance(a[n], torch.Tensor) for a in at) and moved(*(a[n] for a in at))), None)


def _off(bench: Bench, node: fx.Node, root: fx.Node, label: str, text: str, *labels: tuple[fx.Node, str]) -> Broken:
    model = bench.model
    found = Found(
        model.where(node),
        label=label,
        labels=model.labels(*labels, (root, "the total of the counts")),
        why="samples with many counts are predicted to have few: the decoder has to undo the total before it can fit anything",
        help="NB of mean m and dispersion r in torch: NegativeBinomial(total_count=r, probs=m / (m + r)), or logits=log(m) - log(r)",
    )
    return Broken("count-mean-inverted", found, "the expected count doubles with the total", text)


def _exchanged(bench: Bench, counted: Counted) -> Iterator[Broken]:
    """No value of the record is the mean m, and one of them is r^2 / m."""
    mean, variance, good = counted.moments()
    good &= variance > mean * (1 + 1e-3)
    if int(good.sum()) < _FEWEST:
        return
    one, flow = counted.one, bench.model.flow
    dispersion = mean**2 / (variance - mean)
    ends = {*one.at.raw, *one.at.parameters, *one.at.conditions}
    still = [n for n in flow.sorted(one.inside) if one.at.target not in flow.ancestors(n, stop=ends) and bench.is_real(n)]
    got = one.over(counted.points[:2], more=still)
    rows = {n: v[0].reshape(-1) for n in still if isinstance(v := got[n], torch.Tensor) and v.dim() and v[0].numel() == mean.numel()}
    if any(_equal(v, mean, good) for v in rows.values()):
        return
    called = next((n for n, v in rows.items() if _equal(v, dispersion**2 / mean, good)), None)
    if called is not None:
        falling = next((n for n in still if n in flow.descendants(called) and _falls(one, called, n)), one.core)
        text = f"the mean is r^2 / m where {bench.model.written(called)} is m, and r the dispersion"
        yield _off(bench, falling, called, "falls where the mean that the decoder puts out grows", text)


def _equal(value: torch.Tensor, wanted: torch.Tensor, good: torch.Tensor) -> bool:
    return bool(((value - wanted).abs() < _EQUAL * wanted.abs())[good].all())


def _falls(one: Elementwise, called: fx.Node, node: fx.Node) -> bool:
    points = torch.arange(2, dtype=torch.float64)
    before = one.over(points, more=[called, node])
    after = one.over(points, more=[node], put={called: 1.5 * before[called]})
    return node is not called and bool((after[node] < before[node]).double().mean() > 0.9)
