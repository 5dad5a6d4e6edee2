"""Experiments on the reconstruction term: its sign, its likelihood, what it is compared with, padding."""

from __future__ import annotations

import math

import torch
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.anatomy.posterior.sites import frontier
from vaelint.anatomy.reconstruction.recon import FAMILIES
from vaelint.experiment.isolated import share, slope, term_value
from vaelint.experiment.trial import SAME, Trial, differ, rounding, tolerance
from vaelint.experiment.verdict import POWER, CannotMeasureError, NoPowerError, Verdict, exactly, experiment, number, seen
from vaelint.faults.likelihood.leak import own_step_shown
from vaelint.faults.likelihood.likelihood_claims import (
    DataBehindEncoder,
    HeadsEqual,
    Kernel,
    LossAgainstRepaired,
    PaddingCounts,
    ReconGradient,
    SameValues,
    StepLeak,
    TargetLeak,
)
from vaelint.faults.likelihood.likelihood_gradients import family_slope, recon_slope
from vaelint.record import ops
from vaelint.replay.value_places import places_of, places_to_ask

_KERNEL_OF = {
    "binary_cross_entropy": "bce",
    "binary_cross_entropy_with_logits": "bce_with_logits",
    "poisson_nll_loss": "poisson_log",
    "mse_loss": "squared_error",
}

_ALONG = 1e-6  # of the product of two lengths: below, a slope has no sign


@experiment(ReconGradient, "the loss as the reconstruction moves towards its target", "the sign")
def recon_gradient(trial: Trial, claim: ReconGradient) -> Verdict:
    """Whether a small step of the reconstruction towards the target raises the loss."""
    fact: ReconFact = claim.fact
    r, t, got = recon_slope(trial, fact)
    if t is None:
        raise CannotMeasureError("the target was not found")
    if fact.probe.kernel in ("cross_entropy", "nll", "bce_with_logits", "poisson_log"):
        way = -family_slope(fact.probe.kernel, r, t, fact.probe.axis)
    elif t.shape == r.shape:
        way = t.to(r.dtype) - r
    else:
        raise CannotMeasureError("reconstruction and target have different shapes")
    g, towards = got.double(), way.double()
    used = g.isfinite() & towards.isfinite()  # a squashed probability has no slope at its ends
    change = float((g * towards)[used].sum())
    told = f"the loss {'rises' if change > 0 else 'falls'}: its slope on that way is {number(change)}"
    if abs(change) <= _ALONG * float(g[used].norm() * towards[used].norm()):
        raise NoPowerError(told)
    return Verdict(change > 0, told)


@experiment(Kernel, "the reconstruction term against the likelihood it is meant to be", "2 % of the gradient, or 4 roundings")
def kernel(trial: Trial, claim: Kernel) -> Verdict:
    """Whether the term's gradient is not a multiple of the likelihood's; for a learned variance, whether its two parts disagree."""
    fact: ReconFact = claim.fact
    scale: fx.Node | None = claim.scale or next(iter(fact.pair.extra), None)
    if scale is not None:
        return _gaussian(trial, fact, scale)
    if claim.exchanged and fact.probe.kernel in ("other", "negative_log_probability"):
        return _exchanged(trial, fact)
    name = "bce" if fact.probe.kernel == "bce_swapped" else _KERNEL_OF.get(ops.op(fact.pair.meet), fact.probe.kernel)
    r, t, got = recon_slope(trial, fact)
    if t is None:
        raise CannotMeasureError("the target was not found")
    want = family_slope(name, r, t, fact.probe.axis)
    if not bool(want.isfinite().all()):
        want = want.nan_to_num(0.0, 0.0, 0.0)
    w, residual = share(got, want)
    allowed = max(0.02, 4 * rounding(r))
    told = f"the gradient is off the nearest multiple of the likelihood's by {residual:.0%}"
    return Verdict(exactly(residual > allowed or w < 0, w, residual), told)


def _exchanged(trial: Trial, fact: ReconFact) -> Verdict:
    """Whether the term is the likelihood of the reconstruction given the data: its slope in the data is that of a prediction."""
    pair = fact.pair
    if pair.target is None:
        raise CannotMeasureError("the target was not found")
    (data, *others) = frontier([pair.target], trial.model.flow)  # what logarithms of both sides are taken of
    if others:
        raise CannotMeasureError("the target is made of several values")
    r, t = trial.value(pair.recon).detach(), trial.value(data).detach()
    inner = (0.25 + 0.5 * (t - t.min()) / (t.max() - t.min()).clamp(min=1e-30)).requires_grad_()  # away from the ends of logarithms
    got = slope(term_value(trial, fact.term, {pair.recon: r, data: inner}), {data: inner})[data]
    fits = {name: share(got, FAMILIES[name](inner.detach(), r.to(inner.dtype)))[1] for name in _ONE_SIDED}
    nearest = min(fits, key=lambda name: fits[name])
    told = f"its gradient in the data is off that of a {nearest} prediction by {fits[nearest]:.0%}"
    return Verdict(exactly(fits[nearest] <= max(0.02, 4 * rounding(r)), fits[nearest]), told)


def _root(trial: Trial, head: fx.Node) -> fx.Node:
    """The raw output that a scale is a function of: the log term may be another function of it."""
    learned = trial.model.flow.learned
    while ops.op(head) in ops.FUNCTIONS | ops.ARITHMETIC and len(inner := [n for n in ops.value_inputs(head) if n in learned]) == 1:
        if not trial.has(inner[0]) or trial.value(inner[0]).shape != trial.value(head).shape:
            break
        head = inner[0]
    return head


_ONE_SIDED = ("bce", "bce_with_logits", "poisson", "poisson_log")


def _gaussian(trial: Trial, fact: ReconFact, head: fx.Node) -> Verdict:
    """-log N(t; r, v) = (r - t)^2 / (2 v) + log(v) / 2: the part without error is -1/2 times the log of the factor of the error."""
    pair = fact.pair
    if pair.target is None:
        raise CannotMeasureError("the target was not found")
    if ops.op(pair.meet) == "gaussian_nll_loss":
        variance = trial.value(head).detach()
        low = float(variance.min())
        cut = float((variance == low).double().mean())  # a raw output cut at a floor has many values exactly there
        told = f"the lowest variance is {number(low)}, and {cut:.0%} of all are exactly that"
        return Verdict(exactly(low <= 0 or (low <= 1e-4 and cut > 0.05), low), told)
    head = _root(trial, head)
    zero = torch.zeros_like(trial.value(pair.target).detach())
    factors, offsets = [], []
    with torch.no_grad():
        for level in (-0.8, -0.3, 0.2, 0.6, 1.0):
            v = torch.full_like(trial.value(head).detach(), level)
            at = [
                float(
                    term_value(
                        trial, fact.term, {head: v, pair.recon: torch.full_like(trial.value(pair.recon).detach(), d), pair.target: zero}
                    )
                )
                for d in (0.0, 1.0)
            ]
            factors.append(at[1] - at[0])
            offsets.append(at[0])
    x, y = torch.tensor(factors, dtype=torch.float64), torch.tensor(offsets, dtype=torch.float64)
    if not bool((x.isfinite() & y.isfinite()).all()):
        raise NoPowerError("the likelihood is not finite at the variances that were tried")
    if not bool((x > 0).all()):
        return Verdict(True, "the error is weighed by a number that is not positive")
    columns = torch.stack([x.log(), torch.ones_like(x)], 1)
    fitted = torch.linalg.lstsq(columns, y.unsqueeze(1)).solution
    size = float((y - y.mean()).norm())
    residual = float((columns @ fitted - y.unsqueeze(1)).norm()) / size if size else 0.0
    constant = float(x.log().std()) < 1e-6
    wrong = residual > 0.01 or float(fitted[0]) > -1e-6 or (constant and size > 1e-6)
    if not wrong and (share_ := _share_of_error(float(fitted[0]), float(fitted[1]))) is not None and abs(share_ - 1) > 0.02:
        return Verdict(True, f"beside its log term the error has {number(share_)} times the factor of a Gaussian likelihood")
    return Verdict(
        wrong,
        f"the log term is {number(float(fitted[0]))} times the log of the error's weight, off by {residual:.0%}",
        "a likelihood has a negative factor and no rest",
    )


def _share_of_error(slope: float, offset: float) -> float | None:
    """The error's factor where the log term is 0, over the one that belongs to it; with log(2 pi) / 2 or without, whichever fits."""
    try:
        shares = [math.exp((-2 * slope * norm - offset) / slope) / -slope for norm in (0.0, 0.5 * math.log(2 * math.pi))]
    except OverflowError:
        return None
    return min(shares, key=lambda s: abs(s - 1))


@experiment(SameValues, "the values of the two", SAME)
def same_values(trial: Trial, claim: SameValues) -> Verdict:
    """Whether the first value equals any of the others."""
    first, *others = [n for n in claim.nodes if n is not None]
    mine = trial.value(first).detach()
    gaps = {n: _gap(mine, trial.value(n).detach()) for n in others if trial.has(n)}
    if not gaps:
        raise CannotMeasureError("there is nothing to compare it with")
    nearest: fx.Node = min(gaps, key=lambda n: gaps[n])
    gap = gaps[nearest]
    name, other = trial.model.written(first), trial.model.written(nearest)
    text = f"{name} differs from {other} by {number(gap)} of its size" if gap else f"{name} and {other} are equal"
    if gap == float("inf"):
        text = f"{name} has another shape than {other}"
    return seen(gap, tolerance(mine), text, claimed=not claim.equal)


def _gap(a: torch.Tensor, b: torch.Tensor) -> float:
    """Difference of two values that may be flattened differently."""
    if a.shape != b.shape and a.numel() == b.numel():
        a, b = a.flatten(), b.flatten()
    if a.shape == b.shape and a.is_floating_point() != b.is_floating_point():
        a, b = a.double(), b.double()
    return differ(a, b)


@experiment(HeadsEqual, "the raw mean and the raw scale", SAME)
def heads_equal(trial: Trial, claim: HeadsEqual) -> Verdict:
    """Whether the two heads of a posterior are one value, or equal ones."""
    mean, scale = claim.nodes
    if mean is scale:
        other = trial.again(seed=1)
        return Verdict(other.node(mean) is other.node(scale), f"{trial.model.written(mean)} is the one value that both are made of")
    return same_values(trial, SameValues("", nodes=(mean, scale)))


@experiment(DataBehindEncoder, "the loss with the data exchanged, the posterior and all that was encoded held fixed", SAME)
def data_behind_encoder(trial: Trial, claim: DataBehindEncoder) -> Verdict:
    """Whether the loss sees the data through layers of the model only."""
    model = trial.model
    inputs = {n: trial.value(n).detach() for n in model.record.inputs.values()}
    numbers = {n for n, v in inputs.items() if v.is_floating_point()} or set(inputs)  # labels beside the data are known to the decoder
    changes = {n: torch.roll(v.flatten(), 1).view_as(v) for n, v in inputs.items() if v.numel() > 1 and n in numbers}
    sites = model.sites + model.idle_sites
    if not sites:
        raise CannotMeasureError("nothing is drawn, so that encoder and decoder cannot be told apart")
    free = {n for n in model.flow.order if n in model.flow.data and n not in model.flow.learned}
    inside = (free | model.decoded | _after_decoder(trial)) - {n for s in sites for n in (*s.heads, s.z)}
    loss = trial.loss_node
    before = float(trial.recompute([loss], inputs, inside=inside)[loss].detach().double().sum())
    after = float(trial.recompute([loss], changes, inside=inside)[loss].detach().double().sum())
    gap = abs(after - before) / (abs(before) or 1.0)
    return seen(gap, tolerance(trial.loss), f"the loss is {number(before)}, and {number(after)} with other data", claimed=False)


def _after_decoder(trial: Trial) -> set[fx.Node]:
    """Values that mix bare data with decoded values: comparisons, and what follows."""
    model = trial.model
    bare = {n for n in model.flow.order if n in model.flow.data and n not in model.flow.learned}
    meets = [
        n for n in model.flow.order if any(i in bare for i in ops.value_inputs(n)) and any(i in model.decoded for i in ops.value_inputs(n))
    ]
    return model.flow.descendants(*meets) if meets else set()


@experiment(PaddingCounts, "the loss as the logits at padding change", SAME)
def padding_counts(trial: Trial, claim: PaddingCounts) -> Verdict:
    """Puts padding at the end of each target and changes the logits there."""
    fact: ReconFact = claim.fact
    index, lengths, pair, axis = claim.padding.index, claim.padding.lengths, fact.pair, fact.probe.axis
    if pair.target is None or (index is None and lengths is None) or axis is None:
        raise CannotMeasureError("the padding index or the axis of the classes is not known")
    target, logits = trial.value(pair.target).detach().clone(), trial.value(pair.recon).detach()
    padded = torch.zeros_like(target, dtype=torch.bool)
    padded.view(-1)[-max(1, target.numel() // 4) :] = True
    if index is not None:
        target[padded] = index
    short = {lengths: torch.ones_like(trial.value(lengths))} if lengths is not None else {}
    slope = torch.linspace(0, 3, logits.shape[axis], dtype=logits.dtype, device=logits.device)

    def moved(places: torch.Tensor) -> torch.Tensor:
        """The logits with those of some places shifted."""
        shift = torch.zeros_like(logits).movedim(axis, -1)
        shift[places] = slope
        return logits + shift.movedim(-1, axis)

    with torch.no_grad():
        before, after, control = (
            float(term_value(trial, fact.term, {**short, pair.target: target, pair.recon: given}))
            for given in (logits, moved(padded), moved(~padded))
        )
    size = abs(before) or 1.0
    return seen(
        abs(after - before) / size,
        tolerance(logits),
        f"the term goes from {number(before)} to {number(after)}",
        "a quarter of the target is padding" + (f" (index {index})" if index is not None else ""),
        least=abs(control - before) / size / 8,
    )


@experiment(LossAgainstRepaired, "the loss against that of the repaired code", f"0.1 %, or {SAME}")
def loss_against_repaired(trial: Trial, claim: LossAgainstRepaired) -> Verdict:
    """`repaired(value)` gives the repaired loss from the values of nodes; the two must differ."""
    got, mended = float(trial.loss.detach().double().sum()), float(claim.repaired(trial.value))
    off, limit = abs(got - mended) / (max(abs(got), abs(mended)) or 1.0), max(1e-3, tolerance(trial.loss))
    told = f"the loss is {number(got)}, repaired it is {number(mended)}"
    sizes = [max(float(trial.value(leaf.node).detach().double().abs().sum()) for leaf in t.leaves) for t in trial.model.terms]
    if off <= limit and sizes and min(sizes) < POWER * limit * max(sizes):
        raise NoPowerError(f"{told}: one term hides what becomes of another")
    return seen(off, limit, told)


@experiment(TargetLeak, "the prediction of a token when that token changes, z held fixed", SAME)
def target_leak(trial: Trial, claim: TargetLeak) -> Verdict:
    """Changes single tokens in the input and looks at the logits that are to predict them."""
    fact: ReconFact = claim.fact
    tokens, pair, axis = claim.tokens, fact.pair, fact.probe.axis
    if pair.target is None or axis is None:
        raise CannotMeasureError("the target or the axis of the classes is not known")
    base, target = trial.value(tokens).detach(), pair.target
    places = places_of(lambda v: trial.recompute([target], {tokens: v})[target], base).flatten()
    held = {s.z: trial.value(s.z).detach() for s in trial.model.sites}

    def rows(values: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = trial.recompute([pair.recon], {**held, tokens: values})[pair.recon].detach().movedim(axis, -1)
        return logits.reshape(-1, logits.shape[-1])

    before, moves = rows(base), list[float]()
    if len(before) != len(places):
        raise CannotMeasureError("logits and target do not match one to one")
    for at in places_to_ask(places, base):
        index = int(places[at])
        others = base[base != base.view(-1)[index]] if 0 <= index < base.numel() else base[:0]
        if not others.numel():
            continue
        changed = base.clone()
        changed.view(-1)[index] = others[0]
        moves.append(differ(before[at], rows(changed)[at]))
    if not moves:
        raise CannotMeasureError("all tokens of the input are equal")
    leak = sorted(moves)[-min(2, len(moves))]  # the last token may be none of the decoder's input
    told = f"the logits of the changed token move by {number(max(moves))} of their size"
    return seen(leak, tolerance(before), told, f"{len(moves)} tokens, one at a time")


@experiment(StepLeak, "the prediction of a step when that step changes, z held fixed", SAME)
def step_leak(trial: Trial, claim: StepLeak) -> Verdict:
    """Changes single values of a series and looks at the predictions of the same step, of those before it and of those after."""
    fact: ReconFact = claim.fact
    given, pair = claim.given, fact.pair
    if pair.target is None:
        raise CannotMeasureError("the target is not known")
    base, target = trial.value(given).detach(), pair.target
    places = places_of(lambda v: trial.recompute([target], {given: v})[target], base)
    held = {s.z: trial.value(s.z).detach() for s in trial.model.sites}

    def predict(values: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = trial.recompute([pair.recon], {**held, given: values})[pair.recon].detach()
        return out

    moved = own_step_shown(predict, base, places, claim.axis, tolerance(base))
    told = f"the prediction of the changed step moves by {number(moved or 0.0)}"
    return seen(math.inf if moved is not None else 0.0, 0.0, told)
