"""Log-sum-exps on the way to the loss: what they sum, over which axes. The marks of mixtures and of importance-weighted bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.loss.exponents import axes_of, maximum_of, summed_exponent, summing_exponentials, taken_off
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import shape

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

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
    taken = taken_off(source)
    return taken[0] if taken is not None else source


def shifts_of(s: LogSum) -> tuple[fx.Node, ...]:
    """The largest exponent, where it is taken off before the exponential: once, or once for that and once to be added again."""
    source = summed_exponent(s.node)
    taken = taken_off(source) if source is not None else None
    if taken is None:
        return ()
    exponents, largest = taken
    axes = axes_of(largest)
    return tuple(n for n in exponents.graph.nodes if n is largest or (axes and axes_of(n) == axes and maximum_of(n) is exponents))


def posterior_values(model: Model, sizes: dict[str, int], seed: int) -> dict[fx.Node, torch.Tensor]:
    """Random values for all draws and for the raw outputs behind them: what densities in z are functions of. May raise `ReplayError`."""
    generator = torch.Generator().manual_seed(seed)
    nodes = model.flow.sorted({s.z for s in model.sites} | {h for s in model.sites for h in s.heads})
    return {n: torch.randn(model.replay.shape_of(n, sizes), dtype=torch.float64, generator=generator) for n in nodes}


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
