"""What a term beside reconstruction and KL is, by running its slice again at other values: a name is given for what it does, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.anatomy.posterior.sites import frontier
from vaelint.record import ops
from vaelint.replay.measuring import measured
from vaelint.replay.replay import ReplayError
from vaelint.replay.scale import Scaling

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_CLOSE = 1e-6
_FAR = (4.0, 8.0)

Filler = Callable[[tuple[int, ...]], torch.Tensor]


def is_distance(model: Model, leaf: Leaf) -> bool:
    """Whether a term is 0 where the reconstruction is the data, and not elsewhere: a distance of what layers make of the two."""
    pairs = [fact.pair for fact in model.recons if fact.pair.target is not None]
    above = model.flow.ancestors(leaf.node)
    for pair in pairs:
        assert pair.target is not None
        for recon in {pair.recon, *pair.raw} & above:
            shape = model.replay.shape_of(pair.target, model.symbols)
            if model.replay.shape_of(recon, model.symbols) != shape:
                continue
            data = 0.2 + 0.6 * torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
            same = _total(model, leaf, {recon: data, pair.target: data})
            other = _total(model, leaf, {recon: data.flip(0) * 0.5, pair.target: data})
            if same is not None and other is not None and abs(same) <= _CLOSE * abs(other):
                return True
    return False


def is_log_prior(model: Model, leaf: Leaf) -> bool:
    """Whether a term is a function of the draw alone that rises wherever the draw goes far: minus the logarithm of a density."""
    draws = {s.z for s in model.sites}
    if not leaf.frontier or not draws.issuperset(leaf.frontier):
        return False
    seeds = range(3)
    if not _adds_up(model, leaf):
        return False

    def at(way: int, far: float) -> float | None:
        return _total(model, leaf, {n: far * _drawn(1.0, way)(model.replay.shape_of(n, model.symbols)) for n in leaf.frontier})

    for way in seeds:
        values = [at(way, sign * far) for sign in (1.0, -1.0) for far in (0.0, *_FAR)]
        if any(v is None for v in values):
            return False
        near, one, two, _, back, far_back = (float(v) for v in values if v is not None)
        rises = {(one > near) and (two > one), (back > near) and (far_back > back)}
        falls = {(one < near) and (two < one), (back < near) and (far_back < back)}
        if rises != {True} and falls != {True}:
            return False
    return True


def undrawn_kl(model: Model, leaves: list[Leaf]) -> tuple[Scaling, fx.Node] | None:
    """The weight of a KL to N(0, 1) in closed form, and the mean it is of, where nothing is drawn: by its gradients."""
    loss, flow = model.record.loss, model.flow
    ends = frontier([leaf.node for leaf in leaves], flow, through=ops.REDUCE | ops.JOIN | ops.COMPARE)  # parts of one output are two ends
    raw = [n for n in ends if n in flow.learned and n in flow.data]
    if loss is None or model.variational or model.kls or len(raw) != 2 or len({model.replay.texts_of(n) for n in raw}) != 1:
        return None
    term = Term("other", leaves)

    def weight(mean: fx.Node, logvar: fx.Node, even: float, sizes: Mapping[str, int]) -> float:
        at = [_drawn(1.0, seed)(model.replay.shape_of(n, sizes)).requires_grad_() for n, seed in ((mean, 1), (logvar, 2))]
        given = {mean: at[0].clone(), logvar: at[1].clone()}
        out = model.replay([loss], {**silence_others(term, model.replay, sizes), **given}, sizes, even=even)[loss]
        slopes = torch.autograd.grad(out, at, allow_unused=True) if out.requires_grad else (None, None)
        if slopes[0] is None or slopes[1] is None:
            return 0.0
        m, v = (a.detach() for a in at)
        each = torch.cat([(slopes[0] / m).flatten(), (slopes[1] / (0.5 * v.exp() - 0.5)).flatten()])
        return float(each.mean()) if float(each.max() - each.min()) <= 1e-6 * float(each.abs().max()) else 0.0

    for mean, logvar in (raw, raw[::-1]):
        scaling = measured(partial(weight, mean, logvar), model.symbols, model.replay, at=mean)
        if scaling is not None:
            return scaling, mean
    return None


def of_pairs(model: Model, leaf: Leaf) -> tuple[float, float] | None:
    """Target and weight of a Bernoulli likelihood whose logits are products of two rows of the draw: pairs that are there, or are not.

    The last value on the way from the draw that is four times as large where the draw is twice as large, and in which the gradient of the
    term is that of the likelihood.
    """
    draws = {s.z for s in model.sites}
    below = model.flow.descendants(*draws) if draws else set()
    way = [leaf.node]
    while len(sources := {n for n in ops.value_inputs(way[-1]) if n in below}) == 1:
        way += sources
    if way[-1] in draws:
        return None
    found = (_bernoulli(model, leaf, n) for n in _products(model, way[1:], draws))
    return next((weight for weight in found if weight is not None), None)


def _products(model: Model, way: list[fx.Node], draws: set[fx.Node]) -> list[fx.Node]:
    """Those of some nodes that are four times as large where the draws are twice as large; all of them by two runs."""
    above = draws & model.flow.ancestors(*way) if way else set()
    once = {z: _drawn(1.0, 3)(model.replay.shape_of(z, model.symbols)) for z in above}
    try:
        one, two = (model.replay(way, {z: k * v for z, v in once.items()}, model.symbols) for k in (1.0, 2.0))
    except (ReplayError, AttributeError):
        return [] if len(way) < 2 else [n for n in way if _products(model, [n], draws)]  # what does not run may be one of them
    return [n for n in way if _is_four_times(one[n], two[n])]


def _is_four_times(one: object, two: object) -> bool:
    if not (isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor)) or one.shape != two.shape:
        return False
    largest = two.double().abs().max() if two.numel() else torch.zeros(())
    return bool(largest > 0) and bool((two.double() - 4 * one.double()).abs().max() <= _CLOSE * largest)


def _bernoulli(model: Model, leaf: Leaf, logits: fx.Node) -> tuple[float, float] | None:
    at = _drawn(2.0, 4)(model.replay.shape_of(logits, model.symbols)).requires_grad_()
    try:
        out = model.replay([leaf.node], {logits: at.clone()}, model.symbols, seed=2)[leaf.node]
    except (ReplayError, AttributeError):
        return None
    (slope,) = torch.autograd.grad(out.sum(), [at], allow_unused=True) if out.requires_grad else (None,)
    if slope is None:
        return None
    for target in (1.0, 0.0):
        weights = slope / (at.detach().sigmoid() - target)
        if bool(slope.abs().min() > 0) and float(weights.max() - weights.min()) <= 1e-4 * float(weights.abs().max()):
            return target, float(weights.mean())
    return None


def _adds_up(model: Model, leaf: Leaf) -> bool:
    """Whether the draw of one sample adds the same, whatever those of the others are."""

    def at(one: int, others: int) -> float | None:
        values = {}
        for n in leaf.frontier:
            shape = model.replay.shape_of(n, model.symbols)
            values[n] = _drawn(1.0, others)(shape)
            values[n][:1] = _drawn(1.0, one)(shape)[:1]
        return _total(model, leaf, values)

    here, moved, there, moved_there = at(5, 6), at(7, 6), at(5, 8), at(7, 8)
    if here is None or moved is None or there is None or moved_there is None:
        return False
    return abs((moved - here) - (moved_there - there)) <= _CLOSE * max(abs(here), abs(there), abs(moved), abs(moved_there))


def _drawn(factor: float, seed: int) -> Filler:
    generator = torch.Generator().manual_seed(40 + seed)
    return lambda shape: factor * torch.randn(shape, dtype=torch.float64, generator=generator)


def _total(model: Model, leaf: Leaf, values: Mapping[fx.Node, torch.Tensor]) -> float | None:
    """The sum of a term with some values set; None where it does not run so."""
    try:
        return float(model.replay([leaf.node], dict(values), dict(model.symbols), seed=2)[leaf.node].double().sum())
    except (ReplayError, AttributeError):
        return None
