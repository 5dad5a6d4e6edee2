"""Log-weights of a mixture that are added before the sum over the latent, and so are counted once for each of its dimensions.

log p(z) = log sum_k w_k prod_d p_k(z_d): the logarithm of w_k stands beside the sum over d, not in it. For the aggregated posterior over a
minibatch the weights are those of Chen et al. 2018, appendix C.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.loss.logsums import LogSum, log_sums, posterior_values
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.real_values import real_value
from vaelint.replay.replay import ReplayError, gradients

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


@dataclass(frozen=True)
class Repeated:
    """A log-weight, where it is added, the sum that repeats it, how often, and the log-sum-exp it was meant for."""

    weight: fx.Node
    added: fx.Node
    reducer: fx.Node
    times: int
    total: fx.Node


def repeated_weights(model: Model) -> list[Repeated]:
    """One for each place where a weight is added."""
    found: dict[object, Repeated] = {}
    for log_sum in log_sums(model):
        for added, weight in _addends(model, log_sum):
            reducer, times = _summed_along(model, weight, added, log_sum.source)
            if reducer is None or times < 2 or not _varies(model, weight, log_sum):
                continue
            if _counted(model, weight, log_sum.source) == times:
                found.setdefault(model.where(added) or added, Repeated(weight, added, reducer, times, log_sum.node))
    return list(found.values())


def _addends(model: Model, log_sum: LogSum) -> list[tuple[fx.Node, fx.Node]]:
    """Sums of a density and of a value that z has no part in, and that enters the log-sum-exp nowhere else."""
    inside = model.flow.ancestors(log_sum.source) & model.flow.noisy
    found = []
    for node in model.flow.sorted(inside):
        if ops.op(node) not in ops.ADD:
            continue
        for operand in ops.value_inputs(node):
            if operand in model.flow.noisy or not shape(operand) or not _free(model, operand, log_sum.source):
                continue
            found.append((node, operand))
    return found


def _free(model: Model, weight: fx.Node, source: fx.Node) -> bool:
    """Whether what the weight is made of reaches the log-sum-exp through the weight alone: a scale also stands in the exponent."""
    made_of = {n for n in model.flow.ancestors(weight) if isinstance(n.meta.get("val"), torch.Tensor) and n.op != "placeholder"}
    return not (made_of - {weight}) & model.flow.ancestors(source, stop={weight})


def _summed_along(model: Model, weight: fx.Node, added: fx.Node, source: fx.Node) -> tuple[fx.Node | None, int]:
    """The sum between the addition and the log-sum-exp whose axes the weight is stretched along, and how long they are."""
    rank = len(shape(added))
    own = (1,) * (rank - len(shape(weight))) + shape(weight)
    stretched = {d for d in range(rank) if own[d] == 1 and shape(added)[d] > 1}
    node = added
    while node is not source:
        users = [u for u in model.flow.users.get(node, ()) if u is source or source in model.flow.descendants(u)]
        if len(users) != 1:
            return None, 0
        (node,) = users
        if ops.op(node) == "sum":
            axes = [d for d in ops.dims_of(node) or () if d in stretched]
            return node, math.prod(shape(added)[d] for d in axes) if axes else 0
        if ops.op(node) not in ops.ADD | {"neg", "contiguous", "clone", "setitem"} or len(shape(node)) != rank:
            return None, 0
    return None, 0


def _varies(model: Model, weight: fx.Node, log_sum: LogSum) -> bool:
    """Whether the components differ in weight, or can: an equal weight for all moves the value of the loss and nothing else."""
    if not any(n > 1 for n in shape(weight)):
        return False
    if weight in model.flow.learned or weight in model.flow.data:
        return True
    try:
        value = model.replay([weight], {}, dict(model.symbols))[weight]
    except ReplayError:  # made by what leaves no trace, such as torch.Tensor(n, n)
        value = real_value(model, weight)
    return isinstance(value, torch.Tensor) and float(value.max() - value.min()) > 1e-9


def _counted(model: Model, weight: fx.Node, source: fx.Node) -> int:
    """How often one weight enters one exponent: the derivative, at two random points; 0 where it is no whole number."""
    seen = []
    for seed in (1, 2):
        try:
            sizes = dict(model.symbols)
            value = torch.zeros(model.replay.shape_of(weight, sizes), dtype=torch.float64) + 0.1 * seed
            leaf = value.requires_grad_()
            out = model.replay([source], {**posterior_values(model, sizes, seed), weight: leaf.clone()}, sizes)[source]
            (slope,) = gradients(out.flatten()[:1], [leaf])
        except ReplayError:
            return 0
        seen.append(0.0 if slope is None else float(slope.abs().max()))
    whole = round(seen[0])
    return whole if all(abs(s - whole) < 1e-6 * max(1, whole) for s in seen) else 0
