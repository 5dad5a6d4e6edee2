"""Gaussian likelihoods whose variance is learned: whether the error and the logarithm speak of the same variance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy import ops
from vaelint.anatomy.objective import ReconFact
from vaelint.anatomy.recon import Pair
from vaelint.anatomy.replay import ReplayError
from vaelint.anatomy.sites import frontier
from vaelint.anatomy.terms import same_values

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def nll_fault(model: Model, fact: ReconFact) -> tuple[fx.Node, str] | None:
    """What is wrong with a Gaussian likelihood of learned variance.

    For -log N(t; r, s^2) = (r-t)^2/(2 s^2) + log s + const, the part without error must be -1/2 times the logarithm of the factor of the
    squared error, for every value of the variance head.
    """
    pair = fact.pair
    if ops.op(pair.meet) == "gaussian_nll_loss" and pair.extra and (unscaled := _raw_variance(model, pair, pair.extra[0])) is not None:
        return unscaled
    if fact.density is not None and fact.density.name != "gaussian":
        return (fact.term.core or pair.meet, fact.density.fault) if fact.density.fault else None
    scale = scale_of(model, fact)
    if fact.probe.kernel not in ("squared_error", "other") or scale is None:
        return None
    if any(h in pair.leaf.frontier for s in model.sites for h in s.heads):
        return None  # a bound that is one function of likelihood and KL
    if _outputs(model, pair.recon) & _outputs(model, scale):
        return None  # a statistic of the reconstruction, as structural similarity divides by, is no variance of its own
    if ops.op(pair.meet) == "gaussian_nll_loss":
        return None
    raw = frontier([scale], model.flow)
    curve = _nll_curve(model, fact, same_values(raw[0] if len(raw) == 1 else scale))
    if curve is None:
        return None
    slope, offset = curve
    if bool((slope <= 1e-12).any()):
        return None
    x, y = slope.log(), offset
    if float(x.std()) < 1e-6:
        return (pair.meet, "the error is not divided by the variance") if float(y.std()) > 1e-6 else None
    columns = torch.stack([x, torch.ones_like(x)], 1)
    fitted = torch.linalg.lstsq(columns, y.unsqueeze(1)).solution
    residual = float((columns @ fitted - y.unsqueeze(1)).abs().max())
    if residual > 1e-6 * max(1.0, float(y.abs().max())):
        return pair.meet, "the log term is not that of the variance the error is divided by"
    slope_of_log, constant = (float(v) for v in fitted.flatten())
    weight = -2 * slope_of_log
    if weight <= 0:
        return pair.meet, "the log term has the wrong sign"
    # where the log term is 0 the variance is 1, and the error must have the factor weight / 2; with or without log(2 pi) / 2
    for norm in (0.0, 0.5 * math.log(2 * math.pi)):
        if abs((weight * norm - constant) / slope_of_log - math.log(weight / 2)) < 1e-3:
            return None
    return pair.meet, "the log term is not that of the variance the error is divided by"


def scale_of(model: Model, fact: ReconFact) -> fx.Node | None:
    """The decoder's output that is a likelihood's scale, or the one parameter that all elements share for it."""
    if fact.pair.extra:
        return fact.pair.extra[0]
    if fact.density is None or not fact.density.learned:
        return None
    inside = model.flow.ancestors(*(leaf.node for leaf in fact.term.leaves), stop=set(fact.pair.raw))
    own = [n for n in inside if n.meta.get("parameter")]
    return own[0] if len(own) == 1 else None


def _outputs(model: Model, node: fx.Node) -> set[fx.Node]:
    """The layers' outputs, or parts of one, that a value is worked out from without a further layer."""
    found: set[fx.Node] = set()
    todo, seen = [node], {node}
    while todo:
        here = todo.pop()
        if ops.uses_parameter(here) or ops.op(here) in ops.SELECT or ops.is_opaque(here):
            found.add(here)
            continue
        more = [n for n in ops.value_inputs(here) if n not in seen and n in model.flow.learned]
        seen.update(more)
        todo.extend(more)
    return found


def _raw_variance(model: Model, pair: Pair, variance: fx.Node) -> tuple[fx.Node, str] | None:
    """gaussian_nll_loss takes a variance: a layer's raw output, at most cut from below, is a log-variance by mistake."""
    node = variance
    while ops.op(node) in ops.SHAPE | ops.CAST | ops.SELECT | {"clamp", "clamp_min", "clip", "expand", "effect"} and ops.value_inputs(node):
        node = ops.value_inputs(node)[0]
    if ops.uses_parameter(node) and ops.op(node) in ops.LAYERS:
        return pair.meet, "its variance is a layer's raw output: a log-variance, or a value that can be negative"
    return None


def _nll_curve(model: Model, fact: ReconFact, head: list[fx.Node]) -> tuple[torch.Tensor, torch.Tensor] | None:
    """(factor of the squared error, value without error) per element, over a grid of the variance head; None for other errors."""
    from vaelint.anatomy.isolate import silence_others

    assert fact.pair.target is not None and model.record.loss is not None
    slopes, offsets = [], []
    sizes = {**model.symbols, "B": 1}
    try:
        quiet = silence_others(fact.term, model.replay, sizes)
        for leaf in fact.term.leaves:  # other reconstructions of the same term
            along = {*model.flow.ancestors(leaf.node), *leaf.chain}
            if fact.pair.recon not in along and not along & set(head):
                quiet[leaf.node] = torch.zeros(model.replay.shape_of(leaf.node, sizes), dtype=torch.float64)
        for v in (0.3, 0.5, 0.8, 1.2, 1.7):
            at = []
            for delta in (0.0, 1.0, 2.0):
                values = {
                    **{h: torch.full(model.replay.shape_of(h, sizes), v, dtype=torch.float64) for h in head},
                    fact.pair.recon: torch.full(model.replay.shape_of(fact.pair.recon, sizes), delta, dtype=torch.float64),
                    fact.pair.target: torch.zeros(model.replay.shape_of(fact.pair.target, sizes), dtype=torch.float64),
                }
                at.append(float(model.replay([model.record.loss], {**quiet, **values}, sizes)[model.record.loss].sum()))
            if abs(at[2] - at[0] - 4 * (at[1] - at[0])) > 1e-6 * (abs(at[1] - at[0]) + abs(at[2] - at[0])):
                return None  # not quadratic in the error: a likelihood of counts, say
            slopes.append(at[1] - at[0])
            offsets.append(at[0])
    except ReplayError:
        return None
    return torch.tensor(slopes, dtype=torch.float64), torch.tensor(offsets, dtype=torch.float64)
