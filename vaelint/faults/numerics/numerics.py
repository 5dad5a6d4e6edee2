"""Logarithms and roots of what can be zero, exponentials that overflow in half precision."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.core.reach import reachable
from vaelint.faults.likelihood.likelihood import scale_of
from vaelint.faults.numerics.below_zero import LOGS, driven_below, in_loss
from vaelint.faults.sampling.negative_scales import negative_scales
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import shape, span
from vaelint.record.walk import behind
from vaelint.replay.exempt import exempt
from vaelint.replay.intervals import Bounds, intervals_of
from vaelint.replay.ranges import declared_range
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_MENDED_AFTER = frozenset({"clamp", "clip", "clamp_min", "clamp_max", "nan_to_num", "where", "masked_fill", "maximum", "xlogy"})
_EXACT_ZERO = frozenset({"relu", "clamp", "clip", "clamp_min", "abs", "absolute", "square", "pow", "hardtanh", "relu6"})
_REACHES_BOTH = frozenset({"sigmoid", "softmax", "hardsigmoid", "clamp", "hardtanh"})
"""What is exactly at both of its bounds in floating point."""
_SMOOTH = frozenset({"sigmoid", "softmax", "softplus", "exp"})
"""What is 0 only far out, where it has no slope."""
_BCE = ("binary_cross_entropy", "binary_cross_entropy_with_logits")
HALF_MAX = 65504.0
"""The largest number of float16."""
HALF_LIMIT = math.log(HALF_MAX)
"""exp() of more is infinite in float16: 11.09."""


@dataclass(frozen=True)
class Unstable:
    """An operation that is not finite at values that occur."""

    node: fx.Node
    operand: fx.Node
    bounds: Bounds
    data: fx.Node | None = None  # the input, where it is a value of the data alone
    level: float | None = None  # the input's value there, where it is not the bound itself


@dataclass(frozen=True)
class _Log:
    """A logarithm or root in the loss: what it is taken of, and what is known of that."""

    node: fx.Node
    operand: fx.Node
    root: bool
    edge: float  # where it stops being finite
    bounds: Bounds | None

    @property
    def place(self) -> object:
        """Its line; the node itself where it has none."""
        place = span(self.node)
        return (place.file, place.line) if place else self.node


def _log_at(model: Model, node: fx.Node) -> _Log | None:
    """The logarithm or root that a node is; None for all others, and for a `logit` that keeps away from its edges itself."""
    name = ops.op(node)
    root = name == "sqrt" or (name == "pow" and node.args[1:2] == (0.5,))
    guarded = name == "logit" and bool(node.args[1:] or node.kwargs)
    if (name not in LOGS and not root) or guarded or not isinstance(node.args[0], fx.Node):
        return None
    return _Log(node, node.args[0], root, LOGS.get(name, 0.0), intervals_of(model).of(node.args[0]))


class _Search:
    """The unstable logarithms of one model, and what keeps a logarithm from being one."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.found: dict[object, Unstable] = {}
        self._driven: set[object] = set()
        scales = {s.scale for s in model.sites if s.scale is not None}
        self._widths = _made_of(model, [*scales, *(s for r in model.recons if (s := scale_of(model, r)) is not None)])
        self._negative = [s for s in scales if (b := intervals_of(model).of(s)) is not None and b.low < 0]
        self._negative += [scale for _, scale in negative_scales(model)]

    def data_of(self, log: _Log) -> fx.Node | None:
        """What a logarithm of the data alone is bounded by."""
        return log.bounds.by if log.node not in self.model.flow.learned and log.bounds is not None else None

    def of_data_only(self, log: _Log) -> bool:
        """Of the data alone, unless it is the logarithm of an input that was declared to reach 0.

        `[0,inf)` says of what kind the data is, hours or rates, and not that a 0 is among them: no end of it is a value that was seen.
        """
        data = self.data_of(log)
        declared = data is not None and data.op == "placeholder" and _is(log.operand, data) and self._has_ends(data)
        return log.node not in self.model.flow.learned and (log.root or not declared)

    def _has_ends(self, data: fx.Node) -> bool:
        """Whether an input was declared from a number to a number."""
        declared = declared_range(self.model, data)
        return declared is not None and all(map(math.isfinite, declared))

    def mended_after(self, log: _Log) -> bool:
        """All that reads it replaces what is not finite."""
        users = self.model.flow.users.get(log.node, [])
        return bool(users) and all(ops.op(u) in _MENDED_AFTER for u in users)

    def of_width(self, log: _Log) -> bool:
        """The logarithm of a density's width holds it away from 0, and a number that all samples share starts where it was set."""
        by = log.bounds.by if log.bounds is not None else None
        return (
            by is not None
            and (ops.op(by) in _SMOOTH or _is_reciprocal(by))
            and (log.node not in self.model.flow.data or by in self._widths)
        )

    def of_gate(self, log: _Log) -> bool:
        """The logarithm of what scales the draw on its way to decoder or prior, as a flow's determinant has it, holds it away from 0."""
        by = log.bounds.by if log.bounds is not None else None
        if by is None or ops.op(by) not in _SMOOTH:
            return False
        flow = self.model.flow
        after = flow.descendants(by, stop={log.node}) - {by}
        if any(ops.uses_parameter(n) for n in flow.descendants(by) & self.model.decoded if n is not by):
            return True
        return any(ops.op(n) in ("mul", "div") and any(i in self._drawn - after - {by} for i in ops.value_inputs(n)) for n in after)

    @cached_property
    def _drawn(self) -> set[fx.Node]:
        """What is made of a draw of the posterior."""
        return self.model.flow.descendants(*(s.z for s in self.model.sites))

    def of_negative_scale(self, log: _Log) -> bool:
        """The rule on negative scales says so."""
        behind_it = self.model.flow.ancestors(log.operand) if self._negative else set()
        return any(s in behind_it or log.operand in self.model.flow.ancestors(s) for s in self._negative)

    def smooth_root(self, log: _Log) -> bool:
        """A root of what is never below 0, and exactly 0 nowhere."""
        at = log.bounds
        return log.root and at is not None and at.low >= 0 and (at.low != 0 or at.by is None or ops.op(at.by) not in _EXACT_ZERO)

    def with_sure_bounds(self, log: _Log) -> _Log:
        """Bounds below the edge that may be too wide, as those of sums and products, give way to values that were reached."""
        at, model = log.bounds, self.model
        if at is not None and (at.low >= log.edge or _is(log.operand, at.by) or _shifted(log.operand, at.by, model)):
            return log
        below = (f for f in self.found.values() if f.bounds.low < 0)
        here = span(log.node) or log.node
        told = here in self._driven or any(log.operand in model.flow.ancestors(f.operand) for f in below)
        self._driven.add(here)
        return replace(log, bounds=driven_below(model, log.operand, log.edge) if not told else None)


BEFORE = (
    ("a log or root of the data alone", _Search.of_data_only),
    ("non-finite results are replaced", _Search.mended_after),
    ("the scale of a density, which its own log keeps from 0", _Search.of_width),
    ("a flow's scale, which its own log keeps from 0", _Search.of_gate),
)
AFTER = (
    ("reported as a negative scale", _Search.of_negative_scale),
    ("a root of values that are never exactly 0", _Search.smooth_root),
)
"""What keeps the rule silent about a logarithm, by name: before its operand is driven to extremes, and with what came of that."""


def unstable_logs(model: Model) -> list[Unstable]:
    """VAE701: one for each line."""
    search = _Search(model)
    for node in in_loss(model):
        log = _log_at(model, node)
        if log is None or exempt(model, "VAE701", BEFORE, node, search, log):
            continue
        sure = search.with_sure_bounds(log)
        if sure.bounds is None or exempt(model, "VAE701", AFTER, node, search, sure):
            continue
        by = sure.bounds.by
        off: tuple[fx.Node | None, float | None] = (search.data_of(log), None)
        if by is not None and ops.op(by) in ops.COMPARE:
            off = _switched_off(model, by)
            if off[0] is None:
                continue
        if sure.bounds.low < sure.edge or (sure.bounds.low == sure.edge and sure.bounds.reached):
            search.found.setdefault(sure.place, Unstable(node, sure.operand, sure.bounds, *off))
    return list(search.found.values())


def _is_reciprocal(node: fx.Node) -> bool:
    """A number over a value, as the variance of a product of experts is: 0 only where that overflows."""
    number = node.args[1] if ops.op(node) in ("rdiv", "rtruediv") else node.args[0] if ops.op(node) in ops.DIV else None
    return ops.op(node) == "reciprocal" or (isinstance(number, int | float) and number != 0)


def _made_of(model: Model, scales: list[fx.Node]) -> set[fx.Node]:
    """Scales, and what they are functions of element by element."""

    def sources(node: fx.Node) -> list[fx.Node]:
        passes = ops.op(node) in ops.POINTWISE | ops.SHAPE | ops.SELECT | {"effect"} and not ops.uses_parameter(node)
        return [n for n in ops.value_inputs(node) if passes and n in model.flow.learned]

    return reachable([s for s in scales if s in model.flow.learned], sources)


def _switched_off(model: Model, mask: fx.Node) -> tuple[fx.Node | None, float | None]:
    """The input that a mask is made of, and a value of its declared range at which the mask is false; None where there is none."""
    made = [n for n in model.flow.ancestors(mask) if n.op == "placeholder"]
    declared = declared_range(model, made[0]) if len(made) == 1 and mask not in model.flow.learned else None
    for level in (v for v in (declared or ()) if math.isfinite(v)):
        sizes = dict(model.record.sizes)
        filled = torch.full(model.replay.shape_of(made[0], sizes), level, dtype=made[0].meta["val"].dtype)
        try:
            if not bool(model.replay([mask], {made[0]: filled}, sizes)[mask].any()):
                return made[0], level
        except ReplayError:
            break
    return None, None


@dataclass(frozen=True)
class Overflow:
    """An operation that float16 cannot hold: at `limit` of its operand, or at that mean of the values it sums."""

    node: fx.Node
    operand: fx.Node
    high: float  # the operand's upper bound
    limit: float
    summed: int = 1


def half_overflows(model: Model) -> list[Overflow]:
    """VAE603: exponentials in float16 of what can pass 11.09, and sums in float16 of too many values; one for each line.

    Under autocast on CUDA both run in float32, by torch's lists of operations.
    """
    found: dict[object, Overflow] = {}
    for node in in_loss(model):
        val, region = node.meta.get("val"), node.meta.get("autocast")
        source = node.args[0] if node.args else None
        if not isinstance(val, torch.Tensor) or val.dtype is not torch.float16 or not isinstance(source, fx.Node):
            continue
        if node not in model.flow.learned or (region is not None and region.device == "cuda"):
            continue
        over = _exponential(model, node, source) if ops.op(node) in ("exp", "expm1") else _sum(model, node, source)
        if over is not None:
            place = span(node)
            found.setdefault((place.file, place.line) if place else node, over)
    return list(found.values())


def _exponential(model: Model, node: fx.Node, source: fx.Node) -> Overflow | None:
    bounds = intervals_of(model).of(source)
    return Overflow(node, source, bounds.high, HALF_LIMIT) if bounds is not None and bounds.high > HALF_LIMIT else None


def _sum(model: Model, node: fx.Node, source: fx.Node) -> Overflow | None:
    """A sum whose values need no more than a mean of 1, or of the bound they have, to pass 65504."""
    name = ops.op(node)
    summing = name == "sum" or (name in ("mse_loss", "l1_loss", *_BCE) and node.kwargs.get("reduction") == "sum")
    count = math.prod(shape(source)) // max(1, math.prod(shape(node)))
    if not summing or not count:
        return None
    bounds = intervals_of(model).of(source) if name == "sum" else None
    high = max(abs(bounds.low), abs(bounds.high)) if bounds is not None else math.inf
    limit = HALF_MAX / count
    return Overflow(node, source, high, limit, count) if min(high, 1.0 if math.isinf(high) else high) > limit else None


def _is(node: fx.Node, by: fx.Node | None) -> bool:
    """Whether a value is the result of `by`, up to its shape and type."""
    return behind(node, ops.SHAPE | ops.CAST | ops.SELECT, until={by} if by is not None else ()) is by


def _shifted(node: fx.Node, by: fx.Node | None, model: Model) -> bool:
    """Whether a value is `by` or minus `by`, plus numbers: its bounds are then exact, and both are reached."""
    if by is None or ops.op(by) not in _REACHES_BOTH:
        return False
    while node is not by:
        moving = [n for n in ops.value_inputs(node) if n in model.flow.learned]
        if len(moving) != 1 or ops.op(node) not in ops.ADD | ops.SHAPE | ops.CAST | {"neg", "negative"}:
            return False
        (node,) = moving
    return True
