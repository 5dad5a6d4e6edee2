"""The weight of a likelihood whose scale is learned, by what its logarithm weighs where no density could be read from the term.

w (e^2 / (2 s^2) + log s) and w (|e| / s + log s): when s is moved, the error's weight falls as s^-2 or s^-1, which tells by how much
log s moved, and the addends that see no data rise by w for each element.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.anatomy.reconstruction.recon import recon_gradient
from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.record.record import requires_grad, shape
from vaelint.replay.measuring import EVENS, bases
from vaelint.replay.replay import Replay, ReplayError

_POWERS = {"squared_error": 2, "absolute_error": 1}
_AT = (0.5, 0.6)  # what the scale's own numbers are set to
_FAR = 40.0


def learned_weight(fact: ReconFact, loss: fx.Node, flow: Flow, replay: Replay, symbols: Mapping[str, int]) -> float | None:
    """The weight of one element in nats, without the reduction that the error has; None where it cannot be told."""
    power, target = _POWERS.get(fact.probe.kernel), fact.pair.target
    if power is None or target is None or fact.scaling is None or not fact.scaling.constant:
        return None
    reduction = fact.scaling.value / fact.scaling.constant
    for scale in _scales(fact, flow):
        errors = [leaf for leaf in fact.term.leaves if _sees_data(leaf, flow, target) and scale in made_of(leaf, flow)]
        shares = [leaf for leaf in fact.term.leaves if not _sees_data(leaf, flow, target) and scale in made_of(leaf, flow)]
        elements = sum(math.prod(shape(leaf.node)) for leaf in errors)
        try:
            pulls = [_pull(fact, loss, flow, replay, symbols, scale, v) for v in _AT]
            rises = [_value(replay, loss, Term("reconstruction", shares), _at(fact, replay, symbols, scale, v, 0.0), symbols) for v in _AT]
        except ReplayError:
            continue
        if not elements or min(pulls) * max(pulls) <= 0 or pulls[0] == pulls[1]:
            continue
        moved = -math.log(pulls[1] / pulls[0]) / power
        weight = (rises[1] - rises[0]) / moved / elements / reduction
        return weight if weight > 0 else None
    return None


def moves_with_output(fact: ReconFact, loss: fx.Node, replay: Replay, symbols: Mapping[str, int]) -> bool:
    """Whether what an error weighs moves with a further output of the decoder, as with a scale that it puts out."""
    if fact.probe.kernel not in _POWERS or not any(map(requires_grad, fact.pair.extra)):
        return False
    for base in bases(symbols):
        try:
            first, second = (_steepness(fact, loss, replay, base, v) for v in _AT)
        except ReplayError:
            continue
        if max(first, second) > 0:  # 0 of a step that lengths leave out at these sizes
            return abs(first - second) > 1e-4 * max(first, second)
    return False


def _steepness(fact: ReconFact, loss: fx.Node, replay: Replay, sizes: Mapping[str, int], extra: float) -> float:
    """How far the slope in the reconstruction turns between errors of either sign."""
    slopes = [
        recon_gradient(fact.pair, fact.term, loss, replay, sizes, {}, even=EVENS[0], shift=shift, extra=extra)[2] for shift in (-_FAR, _FAR)
    ]
    if slopes[0] is None or slopes[1] is None:
        raise ReplayError("no gradient reaches the reconstruction")
    return float((slopes[0] - slopes[1]).abs().max())


def made_of(leaf: Leaf, flow: Flow) -> set[fx.Node]:
    """What an addend is made of from its raw values on, with what it is multiplied with and divided by on the way up."""
    weighed = [n for link in leaf.chain if ops.op(link) in ops.MUL | ops.DIV for n in ops.value_inputs(link) if n not in flow.data]
    return flow.ancestors(leaf.node, *weighed, stop=set(leaf.frontier))


def scale_addends(fact: ReconFact, flow: Flow) -> list[Leaf]:
    """The addends without data that are made of what the error is divided by: the logarithm of its scale."""
    scales = set(_scales(fact, flow))
    return [leaf for leaf in fact.term.leaves if not _sees_data(leaf, flow, fact.pair.target) and scales & made_of(leaf, flow)]


def _sees_data(leaf: Leaf, flow: Flow, target: fx.Node | None) -> bool:
    """Whether an addend is made of data, other than a mask that the target has no part in."""
    inputs = set(flow.record.inputs.values())
    given = {*leaf.factors, *(f for f in leaf.frontier if f in flow.data and f not in flow.learned)}
    return any(not (inputs and target) or flow.ancestors(n) & flow.ancestors(target) & inputs for n in given)


def _scales(fact: ReconFact, flow: Flow) -> list[fx.Node]:
    """Parameters, and outputs of the decoder, that are in the error and in an addend without data."""
    own = made_of(fact.pair.leaf, flow)
    shared = {n for leaf in fact.term.leaves if not _sees_data(leaf, flow, fact.pair.target) for n in made_of(leaf, flow) & own}
    return [n for n in flow.sorted(shared) if n.meta.get("parameter") or n in fact.pair.leaf.frontier]


def _pull(fact: ReconFact, loss: fx.Node, flow: Flow, replay: Replay, sizes: Mapping[str, int], scale: fx.Node, value: float) -> float:
    """What an error of 1 in every element adds."""
    own = flow.ancestors(fact.pair.leaf.node)  # with an addend that the error itself is made of: silenced, it would hold the scale
    alone = Term("reconstruction", [leaf for leaf in fact.term.leaves if leaf.node in own])
    none, one = (_value(replay, loss, alone, _at(fact, replay, sizes, scale, value, error), sizes) for error in (0.0, 1.0))
    return one - none


def _at(
    fact: ReconFact, replay: Replay, sizes: Mapping[str, int], scale: fx.Node, value: float, error: float
) -> dict[fx.Node, torch.Tensor]:
    """One error in every element, the scale's numbers all alike."""
    target = fact.pair.target
    assert target is not None
    given = {fact.pair.recon: torch.full(replay.shape_of(fact.pair.recon, sizes), 0.25 + error, dtype=torch.float64)}
    given |= {target: torch.full(replay.shape_of(target, sizes), 0.25, dtype=torch.float64)}
    return given | {scale: torch.full(replay.shape_of(scale, sizes), value, dtype=torch.float64)}


def _value(replay: Replay, loss: fx.Node, term: Term, given: Mapping[fx.Node, torch.Tensor], sizes: Mapping[str, int]) -> float:
    out = replay([loss], {**silence_others(term, replay, sizes), **given}, sizes, even=EVENS[0])[loss]
    return float(out.detach().sum())
