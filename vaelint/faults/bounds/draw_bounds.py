"""Bounds over several draws of one input: whether log 1/K sum_k w_k is what they come to (Burda et al. 2016, equation 8).

With equal weights c the bound is log c, which tells its constant; a logarithm right on the exponential of every draw is no bound of
draws at all; a softmax over the inputs in the place of the draws weighs different inputs against each other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.loss.logsums import is_axis_of_draws, log_sums
from vaelint.core.claim_and_repair import Claim
from vaelint.faults.bounds.bounds_claims import BoundOfOnes, ShiftCancels
from vaelint.faults.bounds.shifts import uncancelled_shifts
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


@dataclass(frozen=True)
class FlawedBound:
    """A reduction over draws that is not the bound's, what it reduces, and what is off."""

    node: fx.Node
    source: fx.Node
    what: str
    help: str
    draws: int = 0  # K, where the constant is off
    shift: tuple[fx.Node, ...] = ()  # the largest exponent, where it does not cancel

    @property
    def claim(self) -> Claim | None:
        """What a real run must show."""
        if self.shift:
            return ShiftCancels("the loss moves with the largest exponent", largest=self.shift, source=self.source)
        return BoundOfOnes("the bound is not 0 where all weights are 1", source=self.source) if self.draws else None


def flawed_bounds(model: Model) -> list[FlawedBound]:
    """Bounds over several draws whose logarithm, axis or constant is off."""
    if not model.has_loss:
        return []
    return _undone(model) + _softmaxed_inputs(model) + _shifted(model) + _off_by_a_constant(model)


def _draw_axes(model: Model, node: fx.Node) -> list[int]:
    try:
        return [d for d, n in enumerate(shape(node)) if n > 1 and "B" not in model.dims(node)[d] and is_axis_of_draws(model, node, d)]
    except ReplayError:
        return []


def _undone(model: Model) -> list[FlawedBound]:
    """log(exp(u)), element by element: the mean that belongs between the two comes after them."""
    found = []
    for node in model.flow.sorted(model.reaching_loss & model.flow.noisy & model.decoded):
        inner = ops.value_inputs(node)[:1] if ops.op(node) == "log" else []
        if inner and ops.op(inner[0]) == "exp":
            source = ops.value_inputs(inner[0])[0]
            if shape(source) and _draw_axes(model, source):
                help = "average between the two: torch.logsumexp(log_w, dim) - math.log(K)"
                found.append(FlawedBound(node, source, "takes the logarithm of each weight, and averages after it", help))
    return found


def _softmaxed_inputs(model: Model) -> list[FlawedBound]:
    """Softmaxes over the batch of values that have an axis of draws as well."""
    found = []
    for node in model.flow.sorted(model.reaching_loss & model.flow.noisy & model.decoded):
        axes = ops.dims_of(node) if ops.op(node) == "softmax" and node.args else None
        source = node.args[0] if axes is not None and len(axes) == 1 else None
        if isinstance(source, fx.Node) and axes is not None and "B" in model.dims(source)[axes[0]]:
            own = [d for d in _draw_axes(model, source) if d != axes[0]]
            if own and not any(ops.uses_parameter(n) for n in model.flow.descendants(node) & model.reaching_loss if n is not node):
                what = f"weighs inputs against each other, the draws of one input are on axis {own[0]}"
                found.append(FlawedBound(node, source, what, "normalise over the axis of the draws"))
    return found


def _shifted(model: Model) -> list[FlawedBound]:
    """Largest exponents that are taken off and not added again with the same weight."""
    what, help = "the largest exponent does not cancel", "add the largest exponent to the logarithm itself, or use torch.logsumexp"
    return [FlawedBound(s.node, s.source, what, help, shift=s.largest) for s in uncancelled_shifts(model)]


def _off_by_a_constant(model: Model) -> list[FlawedBound]:
    loss, found = model.record.loss, []
    assert loss is not None
    for s in log_sums(model):
        count = math.prod(shape(s.source)[d] for d in s.axes)
        if count < 2 or len(s.axes) != 1 or s.source not in model.decoded or s.axes[0] not in _draw_axes(model, s.source):
            continue
        beside = model.flow.ancestors(loss, stop={s.source}) - model.flow.descendants(s.source) - {s.source}
        if any(n in model.flow.data or n in model.flow.learned for n in beside):
            continue  # the loss has other addends
        try:
            constant = constant_of(model, s.source)
        except ReplayError:
            continue
        for times, what in ((1, "-log K is not there"), (2, "log K is added, and belongs subtracted"), (-1, "log K is taken off twice")):
            if constant is not None and abs(constant - times * math.log(count)) < 1e-6:
                help = "torch.logsumexp(log_w, dim) - math.log(K), or the logarithm of a mean and no constant"
                found.append(
                    FlawedBound(_constant_place(model, s.node, loss), s.source, f"{what}: with equal weights 1 it is not 0", help, count)
                )
    return found


def constant_of(model: Model, source: fx.Node) -> float | None:
    """The bound with all weights 1, in units of a log-weight; None where the loss is not linear in one that all draws share."""
    loss, sizes = model.record.loss, dict(model.symbols)
    assert loss is not None
    size = model.replay.shape_of(source, sizes)
    at = [float(model.replay([loss], {source: torch.full(size, c, dtype=torch.float64)}, sizes)[loss].sum()) for c in (0.0, 1.0, 2.0)]
    slope = at[1] - at[0]
    return at[0] / slope if slope and abs(at[2] - at[1] - slope) < 1e-6 * abs(slope) else None


def _constant_place(model: Model, node: fx.Node, loss: fx.Node) -> fx.Node:
    """The sum or difference with a plain number after the log-sum-exp, else that itself."""
    above = model.flow.descendants(node) & model.flow.ancestors(loss)
    shifted = (
        n for n in model.flow.sorted(above) if ops.op(n) in ops.ADD | {"sub", "rsub"} and any(isinstance(a, int | float) for a in n.args)
    )
    return next(shifted, node)
