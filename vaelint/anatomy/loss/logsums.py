"""Log-sum-exps on the way to the loss: what they sum, over which axes. The marks of mixtures and of importance-weighted bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.record.walk import back

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_LARGEST = frozenset({"max", "amax"})
_EVEN = 1e-9  # spread along an axis, relative to the values, below which entries count as equal


@dataclass(frozen=True)
class LogSum:
    """`node` = log sum exp `source` over `axes` of the source."""

    node: fx.Node
    source: fx.Node
    axes: tuple[int, ...]


def log_sums(model: Model) -> list[LogSum]:
    """Those that the loss depends on and that see a draw, in the order they ran."""
    found = []
    for node in model.flow.sorted(model.reaching_loss & model.flow.noisy):
        source = summed_exponent(node)
        if source is None or not shape(source):
            continue
        reducer = summing_exponentials(node)
        axes = ops.dims_of(reducer) if reducer is not None else None
        if axes:
            found.append(LogSum(node, _unshifted(source), axes))
    return found


def _unshifted(source: fx.Node) -> fx.Node:
    """u for `u - max(u)`, which is taken off against overflow and added again after the logarithm."""
    taken = _taken_off(source)
    return taken[0] if taken is not None else source


def shift_of(s: LogSum) -> fx.Node | None:
    """The largest exponent, where it is taken off before the exponential."""
    source = summed_exponent(s.node)
    taken = _taken_off(source) if source is not None else None
    return taken[1] if taken is not None else None


def _taken_off(source: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """u and the value of max(u) in `u - max(u)`."""
    if ops.op(source) != "sub" or len(source.args) < 2:
        return None
    first, second = source.args[0], source.args[1]
    if not isinstance(first, fx.Node) or not isinstance(second, fx.Node) or shape(first) != shape(source):
        return None
    way = list(back(second, ops.SHAPE | ops.SELECT | {"detach", "data"}))
    second, largest = way[-1], way[-2] if len(way) > 1 else way[-1]
    if ops.op(second) not in _LARGEST or ops.value_inputs(second)[:1] != [first]:
        return None
    return first, second if isinstance(second.meta.get("val"), torch.Tensor) else largest


def posterior_values(model: Model, sizes: dict[str, int], seed: int) -> dict[fx.Node, torch.Tensor]:
    """Random values for all draws and for the raw outputs behind them: what densities in z are functions of. May raise `ReplayError`."""
    generator = torch.Generator().manual_seed(seed)
    nodes = model.flow.sorted({s.z for s in model.sites} | {h for s in model.sites for h in s.heads})
    return {n: torch.randn(model.replay.shape_of(n, sizes), dtype=torch.float64, generator=generator) for n in nodes}


def summed_exponent(node: fx.Node) -> fx.Node | None:
    """x for logsumexp(x) and for log(sum(exp(x))) or log(mean(exp(x)))."""
    reducer = summing_exponentials(node)
    if reducer is None or reducer is node:
        return ops.value_inputs(node)[0] if reducer is node else None
    exponential = reducer.args[0]
    assert isinstance(exponential, fx.Node)
    return ops.value_inputs(exponential)[0]


def summing_exponentials(node: fx.Node) -> fx.Node | None:
    """The operation that sums in logsumexp(x), in log(sum(exp(x))), log(mean(exp(x))) and log(sum(exp(x)) / K)."""
    if ops.op(node) == "logsumexp":
        return node
    inner = ops.value_inputs(node)[:1] if ops.op(node) == "log" else []
    if inner and ops.op(inner[0]) in ops.DIV and len(ops.value_inputs(inner[0])) == 1 and isinstance(inner[0].args[0], fx.Node):
        inner = [inner[0].args[0]]
    if not inner or ops.op(inner[0]) not in ops.LINEAR_REDUCE or not inner[0].args:
        return None
    summed = inner[0].args[0]
    return inner[0] if isinstance(summed, fx.Node) and ops.op(summed) == "exp" else None


def is_axis_of_draws(model: Model, source: fx.Node, axis: int) -> bool:
    """Whether the entries along an axis differ by their draws alone: with equal noise they are equal."""
    sizes = dict(model.symbols)
    noise = {n for s in model.sites for n in s.noise}
    if not noise:
        return False
    still = {n: torch.full(model.replay.shape_of(n, sizes), 0.4, dtype=torch.float64) for n in noise}
    equal, drawn = (model.replay([source], given, sizes)[source] for given in (still, {}))
    return _spread(equal, axis) < _EVEN < _spread(drawn, axis)


def _spread(value: torch.Tensor, axis: int) -> float:
    width = (value.amax(axis) - value.amin(axis)).max()
    return float(width) / max(float(value.abs().max()), 1e-30)
