"""Experiments on values and numbers: ranges, overflow, logarithms of zero, what is not finite."""

from __future__ import annotations

import math

import torch
from torch import fx

from vaelint.experiment.trial import SAME, Trial, tolerance
from vaelint.experiment.verdict import CannotMeasureError, NoPowerError, Verdict, exactly, experiment, known, number, seen
from vaelint.faults.numerics.numerics_claims import (
    ConstantData,
    DtypeIs,
    GuardVanishes,
    LogOfZero,
    NonFinite,
    ValueOverflow,
    ValueRange,
    ValuesLeft,
    WrapsAround,
)
from vaelint.record import ops
from vaelint.replay.ranges import is_free, raw_outputs

_FAR = 60.0


@experiment(ValueRange, "the smallest and the largest value", SAME)
def value_range(trial: Trial, claim: ValueRange) -> Verdict:
    """Whether a value stays in [low, high] whatever the layers put out; with `outside`, whether it leaves that interval,
    in the run or with the layers behind it driven."""
    node = known(claim.node)
    val = trial.value(node).detach().double()
    low, high = float(val.min()), float(val.max())
    bounds = claim.outside
    if bounds is not None:
        detail, ends = "", (float(bounds[0]), float(bounds[1]))
        if not _beyond(low, high, *ends) and _any_sign(trial, node) and (driven := _driven(trial, node)) is not None:
            (low, high), detail = driven, f"in the run it did not leave; the layer outputs behind it driven over [-{_FAR:g}, {_FAR:g}]"
        told = f"{trial.model.written(node)} is within [{number(low)}, {number(high)}]"
        return seen(_beyond(low, high, *ends), 0.0, told, detail)
    detail = ""
    try:
        driven = _driven(trial, node)
    except CannotMeasureError:
        driven = None
    if driven is not None:
        low, high = min(low, driven[0]), max(high, driven[1])
        detail = f"the layer outputs behind it driven over [-{_FAR:g}, {_FAR:g}]"
    slack = tolerance(trial.value(node)) * max(1.0, abs(low), abs(high))
    beyond = _beyond(low, high, float(claim.low), float(claim.high))
    told = f"{trial.model.written(node)} reaches [{number(low)}, {number(high)}]"
    if driven is not None:  # no weights could take it further
        return Verdict(exactly(beyond <= slack, beyond), told, detail)
    return seen(0.0 if beyond <= slack else beyond, 0.0, told, claimed=False)


def _beyond(low: float, high: float, least: float, most: float) -> float:
    """How far the interval [low, high] reaches out of another; NaN where it is no interval."""
    return math.nan if math.isnan(low) or math.isnan(high) else max(least - low, high - most, 0.0)


def _any_sign(trial: Trial, node: fx.Node) -> bool:
    """Whether all that a value is made of comes out of affine layers, that training may drive anywhere."""
    raw = [n for n in raw_outputs(node, trial.model.flow) if n is not node]
    return bool(raw) and all(is_free(n) for n in raw)


def _driven(trial: Trial, node: fx.Node) -> tuple[float, float] | None:
    """The extremes of a value when the layer outputs that it is made of take large values."""
    raw = [n for n in raw_outputs(node, trial.model.flow) if n.op == "call_function" and n is not node and trial.has(n)]
    if not raw:
        return None
    generator = torch.Generator().manual_seed(7)
    low, high = torch.inf, -torch.inf
    with torch.no_grad():
        for spread in (1.0, 6.0, _FAR):
            changes = {}
            for r in raw:
                val = trial.value(r).detach()
                noise = 2 * torch.rand(val.shape, generator=generator, dtype=torch.float64) - 1
                changes[r] = (spread * noise).to(val.dtype).to(val.device)
            got = trial.recompute([node], changes)[node].double()
            low, high = min(low, float(got.min())), max(high, float(got.max()))
    return low, high


@experiment(ValueOverflow, "the value as the layers behind it put out more and more", "finite or not")
def value_overflow(trial: Trial, claim: ValueOverflow) -> Verdict:
    """Whether a node stops being finite at `at` (or below `below`) in `dtype`, for raw values up to that bound."""
    node: fx.Node = claim.node
    dtype = _dtype(claim.dtype or trial.value(node).dtype)
    sources = [n for n in ops.value_inputs(node) if n.meta.get("val") is not None and trial.has(n) and n not in trial.model.flow.pure_noise]
    source: fx.Node = claim.operand or (sources[0] if sources else node)
    if source is node:
        raise CannotMeasureError("nothing was found to drive the value with")
    val = trial.value(source).detach()
    told = claim.value
    tried = [float(told)] if told is not None else [12.0, 50.0, 100.0, 1000.0]
    for at in tried:
        for sign in (1.0, -1.0):
            big = torch.full_like(val, sign * at).to(dtype)
            with torch.no_grad():
                got = trial.recompute([node], {source: big})[node]
            if not bool(got.isfinite().all()):
                name = str(dtype).removeprefix("torch.")
                value = float(got.flatten()[0])
                return Verdict(True, f"{trial.model.written(node)} is {number(value)} at {number(sign * at)} in {name}")
    return Verdict(False, f"{trial.model.written(node)} stays finite up to {number(tried[-1])}")


@experiment(GuardVanishes, "the value where its constant should keep it from 0, in the precision it is computed in", "exactly 0")
def guard_vanishes(trial: Trial, claim: GuardVanishes) -> Verdict:
    """Whether `operand` is 0 after all where what the constant is added to lies at an end of its range."""
    guard, operand, dtype = claim.guard, claim.operand, _dtype(claim.dtype)
    sources = [n for n in ops.value_inputs(guard) if trial.has(n)]
    if not sources or not claim.ends:
        raise CannotMeasureError("nothing was found to drive the value with")
    lowest = torch.inf
    for at in claim.ends:
        changes = {n: torch.full_like(trial.value(n).detach(), at).to(dtype) for n in sources}
        with torch.no_grad():
            got = float(trial.recompute([operand], changes)[operand].double().min())
        if math.isnan(got):
            raise NoPowerError(f"{trial.model.written(operand)} is NaN there")
        if got <= 0:
            name = str(dtype).removeprefix("torch.")
            return Verdict(
                True, f"{trial.model.written(operand)} is {number(got)} where {trial.model.written(sources[0])} is {at:g}, in {name}"
            )
        lowest = min(lowest, got)
    return Verdict(False, f"{trial.model.written(operand)} is never below {number(lowest)}")


def _dtype(value: object) -> torch.dtype:
    if isinstance(value, torch.dtype):
        return value
    found = getattr(torch, str(value).removeprefix("torch."), None)
    if not isinstance(found, torch.dtype):
        raise CannotMeasureError(f"there is no dtype {value}")
    return found


@experiment(DtypeIs, "the type of the result", "exact")
def dtype_is(trial: Trial, claim: DtypeIs) -> Verdict:
    """Whether a value has a type that the parameters have not."""
    node: fx.Node = claim.node
    got, wanted = trial.value(node).dtype, _dtype(claim.dtype)
    own = {str(p.dtype).removeprefix("torch.") for p in trial.record.model.parameters()}
    text = f"{trial.model.written(node)} is {str(got).removeprefix('torch.')}; the parameters are {', '.join(sorted(own))}"
    return Verdict(got == wanted and str(wanted).removeprefix("torch.") not in own, text)


@experiment(ValuesLeft, "how many different values are left", "at most 2 values")
def values_left(trial: Trial, claim: ValuesLeft) -> Verdict:
    """Whether a rounding leaves at most two different values of more."""
    before, after = (len(set(trial.value(n).detach().flatten().tolist())) for n in (claim.source, claim.node))
    return Verdict(after <= 2 < before, f"{after} different values, of {before} before")


@experiment(WrapsAround, "the same operation on real numbers", "exact")
def wraps_around(trial: Trial, claim: WrapsAround) -> Verdict:
    """Whether whole numbers give another value than the same numbers as real ones do: those of the run, or the `ends` of their range."""
    node, source = claim.node, claim.source
    val = trial.value(source).detach()
    for filled in (val, *(torch.full_like(val, int(end)) for end in claim.ends or ())):
        whole, real = (trial.recompute([node], {source: v})[node].detach().double() for v in (filled.clone(), filled.double()))
        off = (whole - real).abs().flatten()
        if bool((off > 0).any()):
            at = int(off.argmax())
            return Verdict(True, f"{number(float(whole.flatten()[at]))} where real numbers give {number(float(real.flatten()[at]))}")
    return Verdict(False, "the same values")


@experiment(ConstantData, "the value on data without variation", "finite or not")
def constant_data(trial: Trial, claim: ConstantData) -> Verdict:
    """Whether a value is not finite where all elements of an input are equal, to `value` where that is given."""
    node, source = claim.node, known(claim.input)
    val = trial.value(source).detach()
    near = round(8 * float(val.flatten()[0])) / 8  # eighths: their mean is exact, and the deviation exactly 0
    level = claim.value if claim.value is not None else near
    got = trial.recompute([node], {source: torch.full_like(val, level)})[node].detach()
    bad, told = int((~got.isfinite()).sum()), f"{level:g}" if claim.value is not None else "equal"
    return Verdict(bad > 0, f"{bad} of {got.numel()} values are not finite where all of {trial.model.written(source)} is {told}")


@experiment(LogOfZero, "the value and its gradient as the layers behind it saturate", "finite or not")
def log_of_zero(trial: Trial, claim: LogOfZero) -> Verdict:
    """Whether a logarithm, root or quotient stops being finite, or its gradient does, for saturated layer outputs."""
    node: fx.Node = claim.node
    raw = [n for n in _free_outputs(trial, node) if n.op == "call_function" and n is not node and trial.has(n)]
    if not raw and not any(ops.op(n) in ops.PRODUCT for n in raw_outputs(node, trial.model.flow)):
        raw = [n for n in ops.value_inputs(node) if n in trial.model.flow.learned and trial.has(n)]
    raw = [n for n in raw if trial.value(n).is_floating_point()]  # a mask is no layer's output
    if not raw:
        raise CannotMeasureError("the value does not come from a layer's output")
    for at, axis in ((0.0, None), (20.0, None), (-20.0, None), (200.0, None), (-200.0, None), (200.0, -1), (200.0, 1)):
        changes = {n: _saturated(trial.value(n).detach(), at, axis).requires_grad_() for n in raw}
        got = trial.recompute([node], changes)[node]
        where = f"at layer outputs of {at:g}" if axis is None else f"at layer outputs of {at:g} and {-at:g} in turn"
        if not bool(got.detach().isfinite().all()):
            bad = got.detach().flatten()
            return Verdict(True, f"{trial.model.written(node)} is {number(float(bad[~bad.isfinite()][0]))} {where}")
        if got.requires_grad:
            grads = torch.autograd.grad(got.sum(), list(changes.values()), allow_unused=True)
            if any(g is not None and not bool(g.isfinite().all()) for g in grads):
                return Verdict(True, f"its gradient is not finite {where}")
    return Verdict(False, f"{trial.model.written(node)} and its gradient stay finite for layer outputs from -200 to 200")


def _free_outputs(trial: Trial, node: fx.Node) -> list[fx.Node]:
    """The layer outputs behind a value; of a product of two computed values, those behind its factors: `theta @ softmax(weights)` is an
    average of probabilities, and no layer whose output may be anything."""
    found: list[fx.Node] = []
    for n in raw_outputs(node, trial.model.flow):
        factors = ops.value_inputs(n) if n is not node and ops.op(n) in ops.PRODUCT and not ops.uses_parameter(n) else []
        found += [r for f in factors for r in raw_outputs(f, trial.model.flow) if ops.uses_parameter(r)] if factors else [n]
    return list(dict.fromkeys(found))


def _saturated(like: torch.Tensor, at: float, axis: int | None) -> torch.Tensor:
    """`at` everywhere; with an axis, `at` and `-at` in turn along it: a softmax of equal values is far from its bounds."""
    filled = torch.full_like(like, at)
    if axis is None or not -like.dim() <= axis < like.dim():
        return filled
    signs = 1 - 2 * (torch.arange(like.shape[axis], device=like.device) % 2).to(like.dtype)
    return filled * signs.view([-1 if d == axis % like.dim() else 1 for d in range(like.dim())])


@experiment(NonFinite, "values and gradients of the run", "finite or not")
def non_finite(trial: Trial, claim: NonFinite) -> Verdict:
    """Whether a node, or else the loss or a gradient, is not finite."""
    node: fx.Node | None = claim.node
    if node is not None and node in trial.pairs:
        val = trial.like(node).detach()
        if not bool(val.isfinite().all()):
            return Verdict(True, f"{trial.model.written(node)} holds {int((~val.isfinite()).sum())} values that are not finite")
    if not bool(trial.loss.detach().isfinite().all()):
        return Verdict(True, f"the loss is {number(float(trial.loss.detach().sum()))}")
    grads = trial.gradient(trial.loss, [p for p in trial.record.model.parameters() if p.requires_grad])
    bad = sum(g is not None and not bool(g.isfinite().all()) for g in grads)
    return Verdict(bad > 0, f"{bad} of {len(grads)} parameters have a gradient that is not finite")
