"""Experiments on the reconstruction term: its sign, its likelihood, what it is compared with, padding."""

from __future__ import annotations

import math

import torch
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.experiment.isolated import share, term_value
from vaelint.experiment.trial import SAME, Trial, differ, rounding, tolerance
from vaelint.experiment.verdict import About, CannotMeasureError, Verdict, experiment, number
from vaelint.faults.likelihood.leak import own_step_shown
from vaelint.faults.likelihood.likelihood_gradients import family_slope, recon_slope
from vaelint.record import ops

_KERNEL_OF = {
    "binary_cross_entropy": "bce",
    "binary_cross_entropy_with_logits": "bce_with_logits",
    "poisson_nll_loss": "poisson_log",
    "mse_loss": "squared_error",
}


@experiment("recon_gradient", "the loss as the reconstruction moves towards its target", "the sign")
def recon_gradient(trial: Trial, about: About) -> Verdict:
    """Whether a small step of the reconstruction towards the target raises the loss."""
    fact: ReconFact = about["fact"]
    r, t, got = recon_slope(trial, fact)
    if t is None:
        raise CannotMeasureError("the target was not found")
    if fact.probe.kernel in ("cross_entropy", "nll", "bce_with_logits", "poisson_log"):
        way = -family_slope(fact.probe.kernel, r, t, fact.probe.axis)
    elif t.shape == r.shape:
        way = t.to(r.dtype) - r
    else:
        raise CannotMeasureError("reconstruction and target have different shapes")
    change = float((got.double() * way.double()).sum())
    return Verdict(change > 0, f"the loss {'rises' if change > 0 else 'falls'}: its slope on that way is {number(change)}")


@experiment("kernel", "the reconstruction term against the likelihood it stands for", "2 % of the gradient, or 4 roundings")
def kernel(trial: Trial, about: About) -> Verdict:
    """Whether the term's gradient is not a multiple of the likelihood's; for a learned variance, whether its two parts disagree."""
    fact: ReconFact = about["fact"]
    scale: fx.Node | None = about.get("scale") or next(iter(fact.pair.extra), None)
    if scale is not None:
        return _gaussian(trial, fact, scale)
    name = _KERNEL_OF.get(ops.op(fact.pair.meet), fact.probe.kernel)
    r, t, got = recon_slope(trial, fact)
    if t is None:
        raise CannotMeasureError("the target was not found")
    want = family_slope(name, r, t, fact.probe.axis)
    if not bool(want.isfinite().all()):
        want = want.nan_to_num(0.0, 0.0, 0.0)
    w, residual = share(got, want)
    allowed = max(0.02, 4 * rounding(r))
    return Verdict(residual > allowed or w < 0, f"the gradient is off the nearest multiple of the likelihood's by {residual:.0%}")


def _gaussian(trial: Trial, fact: ReconFact, head: fx.Node) -> Verdict:
    """-log N(t; r, v) = (r - t)^2 / (2 v) + log(v) / 2: the part without error is -1/2 times the log of the factor of the error."""
    pair = fact.pair
    if pair.target is None:
        raise CannotMeasureError("the target was not found")
    if ops.op(pair.meet) == "gaussian_nll_loss":
        variance = trial.value(head).detach()
        low = float(variance.min())
        cut = float((variance == low).double().mean())  # a raw output cut at a floor has many values exactly there
        return Verdict(
            low <= 0 or (low <= 1e-4 and cut > 0.05), f"the lowest variance is {number(low)}, and {cut:.0%} of all are exactly that"
        )
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
    if not bool((x > 0).all()):
        return Verdict(True, "the error is weighed by a number that is not positive")
    columns = torch.stack([x.log(), torch.ones_like(x)], 1)
    fitted = torch.linalg.lstsq(columns, y.unsqueeze(1)).solution
    size = float((y - y.mean()).norm())
    residual = float((columns @ fitted - y.unsqueeze(1)).norm()) / size if size else 0.0
    constant = float(x.log().std()) < 1e-6
    wrong = residual > 0.01 or float(fitted[0]) >= 0 or (constant and size > 1e-6)
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


@experiment("same_values", "the values of the two", SAME)
def same_values(trial: Trial, about: About) -> Verdict:
    """Whether the first value equals any of the others."""
    first, *others = [n for n in about["nodes"] if n is not None]
    mine = trial.value(first).detach()
    gaps = {n: _gap(mine, trial.value(n).detach()) for n in others if trial.has(n)}
    if not gaps:
        raise CannotMeasureError("there is nothing to compare it with")
    nearest: fx.Node = min(gaps, key=lambda n: gaps[n])
    equal = gaps[nearest] <= tolerance(mine)
    wanted = bool(about.get("equal", True))
    name, other = trial.model.written(first), trial.model.written(nearest)
    text = f"{name} and {other} are equal" if equal else f"{name} differs from {other} by {number(gaps[nearest])} of its size"
    if gaps[nearest] == float("inf"):
        text = f"{name} has another shape than {other}"
    return Verdict(equal == wanted, text)


def _gap(a: torch.Tensor, b: torch.Tensor) -> float:
    """Difference of two values that may be flattened differently."""
    if a.shape != b.shape and a.numel() == b.numel():
        a, b = a.flatten(), b.flatten()
    if a.shape == b.shape and a.is_floating_point() != b.is_floating_point():
        a, b = a.double(), b.double()
    return differ(a, b)


@experiment("heads_equal", "the raw mean and the raw scale", SAME)
def heads_equal(trial: Trial, about: About) -> Verdict:
    """Whether the two heads of a posterior are one value, or equal ones."""
    mean, scale = about["nodes"]
    if mean is scale:
        other = trial.again(seed=1)
        return Verdict(other.node(mean) is other.node(scale), f"{trial.model.written(mean)} is the one value that both are made of")
    return same_values(trial, {"nodes": [mean, scale], "equal": True})


@experiment("data_behind_encoder", "the loss with the data exchanged, the posterior and all that was encoded held fixed", SAME)
def data_behind_encoder(trial: Trial, about: About) -> Verdict:
    """Whether the loss sees the data through layers of the model only."""
    model = trial.model
    inputs = {n: trial.value(n).detach() for n in model.record.inputs.values()}
    changes = {n: torch.roll(v.flatten(), 1).view_as(v) for n, v in inputs.items() if v.numel() > 1}
    sites = model.sites + model.idle_sites
    if not sites:
        raise CannotMeasureError("nothing is drawn, so that encoder and decoder cannot be told apart")
    free = {n for n in model.flow.order if n in model.flow.data and n not in model.flow.learned}
    inside = (free | model.decoded | _after_decoder(trial)) - {n for s in sites for n in (*s.heads, s.z)}
    loss = trial.loss_node
    before = float(trial.recompute([loss], inputs, inside=inside)[loss].detach().double().sum())
    after = float(trial.recompute([loss], changes, inside=inside)[loss].detach().double().sum())
    same = abs(after - before) <= tolerance(trial.loss) * abs(before)
    return Verdict(same, f"the loss is {number(before)}, and {number(after)} with other data")


def _after_decoder(trial: Trial) -> set[fx.Node]:
    """Values that mix bare data with decoded values: comparisons, and what follows."""
    model = trial.model
    bare = {n for n in model.flow.order if n in model.flow.data and n not in model.flow.learned}
    meets = [
        n for n in model.flow.order if any(i in bare for i in ops.value_inputs(n)) and any(i in model.decoded for i in ops.value_inputs(n))
    ]
    return model.flow.descendants(*meets) if meets else set()


@experiment("padding_counts", "the loss as the logits at padding change", SAME)
def padding_counts(trial: Trial, about: About) -> Verdict:
    """Puts padding at the end of each target and changes the logits there."""
    fact: ReconFact = about["fact"]
    index, lengths, pair = about["padding"].index, about["padding"].lengths, fact.pair
    if pair.target is None or (index is None and lengths is None) or fact.probe.axis is None:
        raise CannotMeasureError("the padding index or the axis of the classes is not known")
    target, logits = trial.value(pair.target).detach().clone(), trial.value(pair.recon).detach()
    padded = torch.zeros_like(target, dtype=torch.bool)
    padded.view(-1)[-max(1, target.numel() // 4) :] = True
    if index is not None:
        target[padded] = index
    short = {lengths: torch.ones_like(trial.value(lengths))} if lengths is not None else {}
    shift = torch.zeros_like(logits).movedim(fact.probe.axis, -1)
    shift[padded] = torch.linspace(0, 3, logits.shape[fact.probe.axis], dtype=logits.dtype, device=logits.device)
    values = []
    with torch.no_grad():
        for extra in (torch.zeros_like(logits), shift.movedim(-1, fact.probe.axis)):
            values.append(float(term_value(trial, fact.term, {**short, pair.target: target, pair.recon: logits + extra})))
    counts = abs(values[1] - values[0]) > tolerance(logits) * abs(values[0])
    return Verdict(
        counts,
        f"the term goes from {number(values[0])} to {number(values[1])}",
        "a quarter of the target is padding" + (f" (index {index})" if index is not None else ""),
    )


@experiment("loss_against_repaired", "the loss against that of the repaired code", f"0.1 %, or {SAME}")
def loss_against_repaired(trial: Trial, about: About) -> Verdict:
    """`repaired(value)` gives the repaired loss from the values of nodes; the two must differ."""
    got, mended = float(trial.loss.detach().double().sum()), float(about["repaired"](trial.value))
    return Verdict(
        abs(got - mended) > max(1e-3, tolerance(trial.loss)) * max(abs(got), abs(mended)),
        f"the loss is {number(got)}, repaired it is {number(mended)}",
    )


@experiment("target_leak", "the prediction of a token when that token changes, z held fixed", SAME)
def target_leak(trial: Trial, about: About) -> Verdict:
    """Changes single tokens in the input and looks at the logits that are to predict them."""
    fact: ReconFact = about["fact"]
    tokens, pair, axis = about["tokens"], fact.pair, fact.probe.axis
    if pair.target is None or axis is None:
        raise CannotMeasureError("the target or the axis of the classes is not known")
    base = trial.value(tokens).detach()
    number_of = torch.arange(base.numel(), device=base.device).view_as(base).to(base.dtype)
    places = trial.recompute([pair.target], {tokens: number_of})[pair.target].flatten()
    held = {s.z: trial.value(s.z).detach() for s in trial.model.sites}

    def rows(values: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = trial.recompute([pair.recon], {**held, tokens: values})[pair.recon].detach().movedim(axis, -1)
        return logits.reshape(-1, logits.shape[-1])

    before, seen = rows(base), []
    if len(before) != len(places):
        raise CannotMeasureError("logits and target do not match one to one")
    for at in sorted({0, len(places) // 2, len(places) - 1}):
        index = int(places[at])
        others = base[base != base.view(-1)[index]] if 0 <= index < base.numel() else base[:0]
        if not others.numel():
            continue
        changed = base.clone()
        changed.view(-1)[index] = others[0]
        seen.append(differ(before[at], rows(changed)[at]))
    if not seen:
        raise CannotMeasureError("all tokens of the input are equal")
    leaks = sorted(seen)[-min(2, len(seen))] > tolerance(before)  # the last token may be none of the decoder's input
    return Verdict(
        leaks, f"the logits of the changed token move by {number(max(seen))} of their size", f"{len(seen)} tokens, one at a time"
    )


@experiment("step_leak", "the prediction of a step when that step changes, z held fixed", SAME)
def step_leak(trial: Trial, about: About) -> Verdict:
    """Changes single values of a series and looks at the predictions of the same step, of those before it and of those after."""
    fact: ReconFact = about["fact"]
    given, pair = about["given"], fact.pair
    if pair.target is None:
        raise CannotMeasureError("the target is not known")
    base = trial.value(given).detach()
    numbers = torch.arange(base.numel(), device=base.device).view_as(base).to(base.dtype)
    places = trial.recompute([pair.target], {given: numbers})[pair.target]
    held = {s.z: trial.value(s.z).detach() for s in trial.model.sites}

    def predict(values: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = trial.recompute([pair.recon], {**held, given: values})[pair.recon].detach()
        return out

    moved = own_step_shown(predict, base, places, about["axis"], tolerance(base))
    return Verdict(moved is not None, f"the prediction of the changed step moves by {number(moved or 0.0)}")
