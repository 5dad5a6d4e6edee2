"""Exponentials inside of logarithms that overflow before the logarithm is taken, and divisors that can be exactly zero."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.core.reach import walked
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import span
from vaelint.record.walk import behind
from vaelint.replay.intervals import intervals_of
from vaelint.replay.ranges import declared_range

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

LIMITS = {torch.float32: 88.72, torch.float16: 11.09, torch.bfloat16: 88.72, torch.float64: 709.78}
"""log() of the largest number of each type: exp() of more is infinite."""

FLOORS = {torch.float32: -103.9, torch.float16: -17.3, torch.bfloat16: -92.9, torch.float64: -745.1}
"""exp() of less is exactly 0."""

_EXACT_ZERO = frozenset({"relu", "relu6", "clamp", "clip", "clamp_min", "hardtanh"})
_SPREADS = frozenset({"std", "var"})
_HIGHEST = frozenset({"max", "amax", "logsumexp", "maximum"})


@dataclass(frozen=True)
class Naive:
    """log(1 + exp(t)) or log(sum(exp(t))): the logarithm, the exponential, t, the t at which it is infinite."""

    log: fx.Node
    exp: fx.Node
    operand: fx.Node
    limit: float
    stable: str  # what to write in its place
    sampler: bool  # on the way to z: a standard deviation, which does not get that large
    below: bool = False  # infinite below the limit: all exponentials are 0 there


def naive_logs(model: Model) -> list[Naive]:
    """VAE703: one for each line."""
    found: dict[object, Naive] = {}
    for node in model.record.graph.nodes:
        if node.op != "call_function" or ops.op(node) not in ("log", "log1p") or node not in model.flow.learned:
            continue
        made = _exponential_inside(node)
        if made is None:
            continue
        exp, stable = made
        operand, val = exp.args[0], exp.meta.get("val")
        if not isinstance(operand, fx.Node) or not isinstance(val, torch.Tensor) or operand not in model.flow.data:
            continue
        limit = LIMITS.get(val.dtype, 88.72)
        bounds = intervals_of(model).of(operand)
        if _shifted(operand, model):
            continue
        below = _is_log_density(model, operand) and "logsumexp" in stable
        if not below and (bounds is None or bounds.high <= limit):
            continue
        sampler = any(operand in s.scale_heads or node in model.flow.ancestors(s.z) for s in model.sites)
        place = span(node)
        fact = Naive(node, exp, operand, FLOORS.get(val.dtype, -103.9) if below else limit, stable, sampler, below)
        found.setdefault((place.file, place.line) if place else node, fact)
    return list(found.values())


def _exponential_inside(log: fx.Node) -> tuple[fx.Node, str] | None:
    """The exp of log(1 + exp), log1p(exp), and of log(exp().sum()); with the function that does the same without overflow."""
    inner = log.args[0] if log.args else None
    if not isinstance(inner, fx.Node):
        return None
    if ops.op(log) == "log1p":
        return (inner, "F.softplus(t)") if ops.op(inner) == "exp" else None
    if ops.op(inner) in ("add", "radd") and len(inner.args) == 2:
        one, other = (inner.args[1], inner.args[0]) if isinstance(inner.args[0], fx.Node) else inner.args
        exact = isinstance(one, int | float) and one == 1
        return (other, "F.softplus(t), or -F.logsigmoid(-t)") if exact and isinstance(other, fx.Node) and ops.op(other) == "exp" else None
    while ops.op(inner) in ops.DIV | ops.MUL and isinstance(inner.args[0], fx.Node) and isinstance(inner.args[1], int | float):
        inner = inner.args[0]
    if ops.op(inner) in ("sum", "mean") and inner.args and isinstance(inner.args[0], fx.Node):
        summed = inner.args[0]
        weighed = [n for n in ops.value_inputs(summed) if ops.op(n) == "exp"] if ops.op(summed) in ops.MUL else []
        exp = summed if ops.op(summed) == "exp" else weighed[0] if len(weighed) == 1 else None
        return (exp, "torch.logsumexp(t, dim)") if exp is not None else None
    return None


def _is_log_density(model: Model, operand: fx.Node) -> bool:
    """Whether a value is a sum over the elements of the data or the latent, of samples one by one: it falls with their number, and all of
    the values that stand beside each other fall together."""
    batch = model.inputs.batch
    if operand not in model.flow.noisy or list(model.dims(operand)).count(batch or "B") > 1:
        return False
    through = ops.ADD | ops.SHAPE | ops.SELECT | ops.CAST | {"neg", "negative"}
    return any(
        ops.op(n) == "sum" and n.args and isinstance(n.args[0], fx.Node) and model.elements(n.args[0]) > model.elements(n)
        for n in walked([operand], lambda n: ops.value_inputs(n) if ops.op(n) in through else ())
    )


def _shifted(operand: fx.Node, model: Model) -> bool:
    """Whether the highest value was taken off before: t - t.max()."""
    taken = [n for part in ops.value_inputs(operand)[1:] for n in model.flow.ancestors(part)] if ops.op(operand) in ops.ADD else []
    return any(ops.op(n) in _HIGHEST for n in taken)


@dataclass(frozen=True)
class Divisor:
    """A quotient whose divisor can be exactly zero; `data` where that hangs on the data alone."""

    node: fx.Node
    divisor: fx.Node
    by: fx.Node
    data: fx.Node | None = None
    declared: bool = True


def zero_divisors(model: Model) -> list[Divisor]:
    """VAE704: by what is cut off at 0, by nothing but zeros, and by the spread of data that need not vary; one for each line."""
    found: dict[object, Divisor] = {}
    for node in model.record.graph.nodes:
        divisor = _divisor(node)
        if divisor is None or (model.reaching_loss and node not in model.reaching_loss):
            continue
        made = _of_data(model, node, divisor) or _cut_at_zero(model, node, divisor) or _nothing_else(model, node, divisor)
        if made is not None:
            place = span(node)
            found.setdefault((place.file, place.line) if place else node, made)
    return list(found.values())


def _divisor(node: fx.Node) -> fx.Node | None:
    if node.op != "call_function":
        return None
    name = ops.op(node)
    at = 1 if name in ops.DIV else 0 if name in ("reciprocal", "rsqrt", "rtruediv", "rdiv") else None
    found = node.args[at] if at is not None and len(node.args) > at else None
    return found if isinstance(found, fx.Node) and isinstance(found.meta.get("val"), torch.Tensor) else None


def _cut_at_zero(model: Model, node: fx.Node, divisor: fx.Node) -> Divisor | None:
    bounds = intervals_of(model).of(divisor)
    sure = bounds is not None and bounds.low == 0 and bounds.reached and bounds.by is not None and ops.op(bounds.by) in _EXACT_ZERO
    if not sure or bounds is None or bounds.by is None or divisor not in model.flow.learned or _itself(divisor) is not bounds.by:
        return None
    return Divisor(node, divisor, bounds.by)


def _nothing_else(model: Model, node: fx.Node, divisor: fx.Node) -> Divisor | None:
    """A divisor that is 0 whatever the data: `/ logvar_prior` where that is a tensor of zeros."""
    bounds = intervals_of(model).of(divisor)
    return Divisor(node, divisor, divisor) if bounds is not None and bounds.low == bounds.high == 0 else None


def _of_data(model: Model, node: fx.Node, divisor: fx.Node) -> Divisor | None:
    """`(x - x.mean(1)) / x.std(1)` of the data itself."""
    spread = _itself(divisor)
    if ops.op(spread) not in _SPREADS or spread in model.flow.learned or spread not in model.flow.data:
        return None
    source = _itself(spread.args[0]) if isinstance(spread.args[0], fx.Node) else spread
    if source.op != "placeholder" or math.prod(source.meta["val"].shape) == 0:
        return None
    return Divisor(node, divisor, spread, source, declared_range(model, source) is not None)


def _itself(node: fx.Node) -> fx.Node:
    """The value before changes of shape and type, and roots."""
    return behind(node, ops.SHAPE | ops.CAST | {"sqrt"})
