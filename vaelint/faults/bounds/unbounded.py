"""Addends that a layer's output can push down without end: the optimum of the whole is minus infinity.

A subtracted Gaussian cross-entropy, for one, falls with (z - m)^2 and with exp(log s^2) of its own prior.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.faults.sampling.heads import same
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import route
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_ROLES = ("kl", "prior", "other")
_FAR = 16.0


@dataclass(frozen=True)
class Unbounded:
    """A raw output, the addend that falls most with it, all that see it, and a value of it far out on the way down."""

    output: fx.Node
    leaf: fx.Node
    leaves: tuple[Leaf, ...]
    at: float


def unbounded_outputs(model: Model) -> list[Unbounded]:
    """One for each raw output behind a prior or divergence in which the loss falls faster than linearly."""
    if not model.has_loss:
        return []
    if any(k.probe.verdict == "sign" for k in model.kls):
        return []  # said already
    sites = model.sites + model.idle_sites  # a draw and its density move together: the rules on the KL have those
    known = {n for s in sites for n in (s.z, *s.heads)}
    drawn_from = model.flow.ancestors(*known) & model.flow.learned
    seen: dict[fx.Node, list[tuple[str, Leaf]]] = {}
    for term in model.terms:
        for leaf in term.leaves:
            for end in leaf.frontier:
                seen.setdefault(end, []).append((term.role, leaf))
    found = []
    asked: set[tuple[object, ...]] = set()  # of the turns of a loop, one
    for end, uses in seen.items():
        if end in known or end not in model.flow.learned or not end.meta.get("grad") or any(role not in _ROLES for role, _ in uses):
            continue
        if ops.op(end) == "custom_gradient":
            continue  # a function of other values, which do not let it be anything
        if any(n.target is end.target and same(end, n) for n in drawn_from):
            continue  # computed once more for the density: the draw moves with it
        if _made_its_draw(model, end):
            continue
        leaves = [leaf for _, leaf in uses if leaf.detached is None]
        turn = (route(end), ops.op(end), *((role, route(leaf.node), ops.op(leaf.node)) for role, leaf in uses))
        if turn in asked:
            continue
        asked.add(turn)
        fall = _fall(model, end, leaves) if leaves else None
        if fall is not None:
            found.append(fall)
    return sorted(found, key=lambda u: model.flow.order[u.output])


def _made_its_draw(model: Model, end: fx.Node) -> bool:
    """Whether a layer reads a draw that the same weights have made: the density of an autoregressive flow, which its draw moves with."""
    flow = model.flow
    read = [n for n in ops.value_inputs(end) if n in flow.noisy]
    beside = [n for n in end.all_input_nodes if n not in flow.data and n not in flow.noisy]
    weights = {n for n in (flow.ancestors(*beside) | set(beside) if beside else ()) if n.op == "get_attr" and n.meta.get("parameter")}
    made = {n.target for n in (flow.ancestors(*read) if read else ()) if n.op == "get_attr"}
    return any(n.target in made for n in weights)


def _fall(model: Model, end: fx.Node, leaves: list[Leaf]) -> Unbounded | None:
    try:
        for sign in (1.0, -1.0):
            near, middle, far = (_at(model, end, leaves, sign * t) for t in (_FAR / 4, _FAR / 2, _FAR))
            if far - middle < 3 * (middle - near) < -1.0:  # a square falls 4 times as far over twice the way, a line 2 times
                one = [(leaf, _at(model, end, [leaf], sign * _FAR) - _at(model, end, [leaf], sign * _FAR / 2)) for leaf in leaves]
                return Unbounded(end, min(one, key=lambda pair: pair[1])[0].node, tuple(leaves), sign * _FAR)
    except ReplayError:
        return None
    return None


def _at(model: Model, end: fx.Node, leaves: list[Leaf], value: float) -> float:
    """The part of the loss that some addends make, with one output at a value everywhere and all else at random ones."""
    sizes, loss = dict(model.symbols), model.record.loss
    assert loss is not None
    generator = torch.Generator().manual_seed(11)
    given = silence_others(Term("kl", leaves), model.replay, sizes)
    for node in model.flow.sorted({f for leaf in leaves for f in leaf.frontier}):
        if node.meta["val"].is_floating_point():
            given[node] = torch.randn(model.replay.shape_of(node, sizes), dtype=torch.float64, generator=generator)
    given[end] = torch.full(model.replay.shape_of(end, sizes), value, dtype=torch.float64)
    out = float(model.replay([loss], given, sizes)[loss].sum())
    if out != out or abs(out) == float("inf"):
        raise ReplayError("not finite there")
    return out
