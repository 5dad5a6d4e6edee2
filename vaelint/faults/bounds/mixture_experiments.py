"""Experiments on mixtures and importance weights: which draw counts most, how often a weight counts, what a density is."""

from __future__ import annotations

import math

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.core.messages import message_of
from vaelint.experiment.isolated import term_value
from vaelint.experiment.trial import Trial, tolerance
from vaelint.experiment.verdict import CannotMeasureError, NoPowerError, Verdict, exactly, experiment, number, seen
from vaelint.faults.bounds.averaged_components import curvatures_agree
from vaelint.faults.bounds.bounds_claims import (
    BoundOfOnes,
    CentredBy,
    ComponentsWeighAlike,
    CountedTimes,
    DiagonalEntries,
    DiscrepancyFalls,
    LogDensity,
    ShiftCancels,
    UnboundedFall,
    WeightsOfDraws,
)
from vaelint.faults.bounds.densities import READINGS
from vaelint.faults.kl.discrepancy import FAR, codes_of

_EVEN = 1e-5  # of the size of some values: below, their spread is rounding


@experiment(WeightsOfDraws, "the slope of the loss in the weights of the draws, against their scores", "a correlation of 0.99")
def weights_of_draws(trial: Trial, claim: WeightsOfDraws) -> Verdict:
    """Whether the draw with the larger score, which gets the larger weight, is the one that the loss holds for worse."""
    node, score, axis = claim.node, trial.value(claim.score).detach().double(), int(claim.axis)
    leaf = trial.value(node).detach().clone().requires_grad_()
    out = trial.recompute([trial.loss_node], {node: leaf})[trial.loss_node]
    (slope,) = trial.gradient(out, [leaf])
    if slope is None:
        raise CannotMeasureError("the loss does not depend on the weights")
    g = slope.double()
    if g.shape != score.shape:  # a log-sum-exp: one slope for all draws of an input
        if not bool(g.isfinite().all()) or not bool(g.any()):
            raise NoPowerError("the loss has no slope in the weights at these values")
        return Verdict(bool((g > 0).all()), f"the loss grows by {number(float(g.mean()))} with the log-sum of the weights")
    s, g = score - score.mean(axis, keepdim=True), g - g.mean(axis, keepdim=True)
    size = float(score.norm()) + float(slope.double().norm())
    if not math.isfinite(size) or float(s.norm()) <= _EVEN * float(score.norm()) or float(g.norm()) <= _EVEN * float(slope.double().norm()):
        raise NoPowerError("all draws of an input have one score, or one slope")
    together = float((s * g).sum() / (s.norm() * g.norm()))
    return Verdict(together > 0.99, f"score and loss of a draw have a correlation of {number(together)}")


@experiment(BoundOfOnes, "the loss where all importance weights are 1", "1 % of log K")
def bound_of_ones(trial: Trial, claim: BoundOfOnes) -> Verdict:
    """Whether the bound is another number than log 1 with all weights 1."""
    weights = trial.value(claim.source).detach()
    zero, one = (
        float(trial.recompute([trial.loss_node], {claim.source: torch.full_like(weights, c)})[trial.loss_node].detach().sum())
        for c in (0.0, 1.0)
    )
    if one == zero:
        raise CannotMeasureError("the loss does not depend on the weights")
    off = zero / (one - zero)
    return Verdict(exactly(abs(off) > 0.01, off), f"with all weights 1 the bound is {number(off)}")


@experiment(ShiftCancels, "the loss with the largest exponent moved, as it is taken off and added again", "0.1 % of the weight")
def shift_cancels(trial: Trial, claim: ShiftCancels) -> Verdict:
    """Whether the loss moves with what is taken off every exponent and added to the logarithm."""
    held = {n: trial.value(n).detach() for n in (*claim.largest, claim.source)}

    def at(shift: float, exponents: float) -> float:
        moved = {n: held[n] + (exponents if n is claim.source else shift) for n in held}
        return float(trial.recompute([trial.loss_node], moved)[trial.loss_node].detach().double().sum())

    base = at(0.0, 0.0)
    by_shift, by_exponents = at(1.0, 0.0) - base, at(0.0, 1.0) - base
    close = max(1e-3 * abs(by_exponents), 1e-5 * abs(base))
    told = f"moved by 1 it moves the loss by {number(by_shift)}, all exponents by {number(by_exponents)}"
    return seen(abs(by_shift), close, told, least=abs(by_exponents))


@experiment(ComponentsWeighAlike, "the curvature of the loss in the posterior through each component, sample by sample", "1 %")
def components_weigh_alike(trial: Trial, claim: ComponentsWeighAlike) -> Verdict:
    """Whether the loss weighs a component the same for all samples: the weights of a mixture are its responsibilities for each."""
    source, axis, posterior = claim.source, claim.axis, claim.posterior
    leaf = trial.value(source).detach().clone().requires_grad_()
    (slope,) = trial.gradient(trial.recompute([trial.loss_node], {source: leaf})[trial.loss_node].sum().reshape(1), [leaf])
    if slope is None or not bool(slope.any()):
        raise CannotMeasureError("the loss does not move with the components")
    rows = []
    for step in (-2.0, 0.0, 2.0):
        moved = trial.value(posterior).detach().clone()
        moved[..., 0] += step
        rows.append(trial.recompute([source], {posterior: moved})[source].detach().double())
    bent = slope.double() * (rows[0] - 2 * rows[1] + rows[2])
    if bent.shape != leaf.shape or not bool(bent.any()):
        raise CannotMeasureError("the components do not see the posterior")
    if not bool(bent.isfinite().all()):
        raise NoPowerError("the curvatures are not finite")
    alike = curvatures_agree(bent, axis, 0.01)
    told = f"a component's weight {'is the same' if alike else 'differs from sample to sample'} over {bent.shape[0]} samples"
    return Verdict(alike, told)


@experiment(DiscrepancyFalls, "the term at normal codes, and at codes that are moved away", "0.1 % of its value")
def discrepancy_falls(trial: Trial, claim: DiscrepancyFalls) -> Verdict:
    """Whether a distance to the prior makes the loss less where the codes are far from the prior."""
    term: Term = claim.term
    codes = codes_of(trial.model, term)
    if not codes:
        raise CannotMeasureError("the codes of the distance were not found")
    values = []
    for move in (0.0, *FAR):
        generator = torch.Generator().manual_seed(5)
        drawn = {c: move + torch.randn(trial.value(c).shape, generator=generator, dtype=torch.float64) for c in codes}
        given = {c: v.to(trial.value(c).detach()) for c, v in drawn.items()}
        values.append(float(term_value(trial, term, given).detach().double()))
    near, *far = values
    if not all(math.isfinite(v) for v in values):
        raise NoPowerError(f"the distance is {', '.join(map(number, values))}")
    falls = all(f < near - 1e-3 * abs(near) for f in far)
    return Verdict(falls, f"{number(near)} at the prior, {number(far[-1])} with the codes moved by {FAR[-1]:g}")


@experiment(CountedTimes, "the slope of one component's exponent in its log-weight", "once and a half")
def counted_times(trial: Trial, claim: CountedTimes) -> Verdict:
    """Whether a log-weight enters the exponent of its component more than once."""
    weight, source = claim.weight, claim.source
    leaf = trial.value(weight).detach().clone().requires_grad_()
    out = trial.recompute([source], {weight: leaf})[source]
    (slope,) = trial.gradient(out.flatten()[:1], [leaf])
    times = 0.0 if slope is None else float(slope.abs().max())
    if not times > 0:
        raise NoPowerError(f"the component has a slope of {number(times)} in its log-weight")
    return Verdict(times > 1.5, f"{trial.model.written(weight)} counts {number(times)} times in one component")


@experiment(LogDensity, "the slopes of the expression in z and in the head of its variance", "1% of the slope")
def log_density(trial: Trial, claim: LogDensity) -> Verdict:
    """Whether the slope in the head is another than that of a Gaussian log-density with the same error in z."""
    z, mean, head = claim.z, claim.mean, claim.head
    values = {n: trial.value(n).detach().clone().requires_grad_() for n in (z, mean, head)}
    leaves: tuple[Leaf, ...] = claim.leaves
    place: fx.Node = claim.place
    if leaves:
        out = term_value(trial, Term("kl", list(leaves)), values)
    else:
        out = trial.recompute([place], values)[place].flatten()[0]
    try:
        (along,) = torch.autograd.grad(out, [values[z]], create_graph=True)
        (curvature,) = torch.autograd.grad(along.sum(), [values[z]], retain_graph=True)
        (slope,) = torch.autograd.grad(out, [values[head]])
    except RuntimeError as error:
        raise CannotMeasureError(f"autograd refuses: {message_of(error).splitlines()[0][:80]}") from error
    used = slope != 0
    precision, step = READINGS[claim.reading]
    at = [_rows(values[n].detach(), slope.shape, used) for n in (z, mean, head)]
    r = _rows(curvature.detach(), slope.shape, used)
    w = (r / precision(at[2])).median()
    wanted = w * step(at[2]) * (1 - precision(at[2]) * (at[0] - at[1]) ** 2)
    off = float((slope[used] - wanted).norm() / wanted.norm().clamp(min=1e-30))
    return Verdict(exactly(off > 0.01, off), f"its slope in {trial.model.written(head)} is off that of a log-density by {off:.0%}")


def _rows(value: torch.Tensor, size: torch.Size, used: torch.Tensor) -> torch.Tensor:
    """The entries of a value that belong to those of the head; z has a row for each input, the components have theirs."""
    if value.shape == size:
        return value[used]
    count = int(used.sum())
    live = value.reshape(-1, value.shape[-1])[0]
    if live.numel() != count:
        raise CannotMeasureError("z and the head have different shapes")
    return live


@experiment(UnboundedFall, "the addends of one output as it grows", "three times the fall over half the way")
def unbounded_fall(trial: Trial, claim: UnboundedFall) -> Verdict:
    """Whether the part of the loss that depends on an output falls faster than a line as the output grows."""
    output, leaves, at = claim.output, claim.leaves, float(claim.at)
    got = []
    for share in (0.25, 0.5, 1.0):
        changed = torch.full_like(trial.value(output).detach(), share * at)
        got.append(float(term_value(trial, Term("kl", list(leaves)), {output: changed}).detach()))
    falls = exactly(got[2] - got[1] < 3 * (got[1] - got[0]) < 0, *got)
    text = ", ".join(f"{number(v)} at {number(s * at)}" for s, v in zip((0.25, 0.5, 1.0), got, strict=True))
    return Verdict(falls, f"the term is {text}")


@experiment(CentredBy, "the means of the values that the covariance is made of", "1e-4 of the largest value")
def centred_by(trial: Trial, claim: CentredBy) -> Verdict:
    """Whether values have mean 0 over their own features, and not over the batch; or whether a shift of all samples moves a covariance of
    theirs, and a shift of all features does not."""
    if claim.product is not None:
        return _centres(trial, claim.values, claim.product)
    value = trial.value(claim.values).detach().double()
    batch, features = (float(value.mean(axis).abs().max()) for axis in (0, 1))
    scale = float(value.abs().max())
    told = f"the largest mean over the batch is {number(batch)}, over the features {number(features)}"
    return Verdict(exactly(features < 1e-4 * scale < batch, scale), told)


def _centres(trial: Trial, values: fx.Node, product: fx.Node) -> Verdict:
    before, given = trial.value(product).detach(), trial.value(values).detach()
    shifts = (1.0 + torch.rand(n, dtype=given.dtype, device=given.device) for n in given.shape)
    moved = [
        float((trial.recompute([product], {values: given + given.std() * shift})[product].detach() - before).abs().max())
        for shift in ((shift.unsqueeze(1) if axis == 0 else shift) for axis, shift in enumerate(shifts))
    ]
    scale = float(before.abs().max())
    told = f"{number(moved[0])} for a number added to a sample's features, {number(moved[1])} for one added to a feature of all samples"
    return Verdict(exactly(moved[0] < 1e-4 * scale < moved[1], scale), told)


@experiment(DiagonalEntries, "the diagonal with the posterior of one sample exchanged", "1e-4 of the values")
def diagonal_entries(trial: Trial, claim: DiagonalEntries) -> Verdict:
    """Whether entry i of a diagonal moves with sample i and with no other."""
    node: fx.Node = claim.node
    before = trial.value(node).detach()
    if before.dim() == 0:
        raise CannotMeasureError("the entries are summed already")
    moved = []
    for row in range(2):
        changes = {}
        for head in {h for s in trial.model.sites for h in s.heads}:
            axis = trial.batch_axis(head)
            if axis is not None:
                changed = trial.value(head).detach().clone()
                changed.select(axis, row).add_(1.0)
                changes[head] = changed
        after = trial.recompute([node], changes)[node].detach()
        gap = (after - before).abs().flatten(0, -2).amax(0) if before.dim() > 1 else (after - before).abs()
        moved.append({int(i) for i in (gap > tolerance(before) * float(before.abs().max())).nonzero()})
    if not all(moved):
        raise NoPowerError("it does not move with the posterior of each sample")
    text = "; ".join(f"sample {row} moves {', '.join(map(str, sorted(m))) or 'no entry'}" for row, m in enumerate(moved))
    return Verdict(all(m <= {row} for row, m in enumerate(moved)), text)
