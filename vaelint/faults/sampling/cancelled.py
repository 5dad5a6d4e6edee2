"""Draws made a function of the posterior's parameters whose derivative cancels: h(a, h^-1(a, z)) is z, whatever a is.

An acceptance-rejection draw is reparameterised by its noise held fixed (Naesseth et al. 2017, section 3); with the noise computed from the
draw by the inverse of the same function, and not detached, the parameters have no part in the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.posterior.sites import frontier
from vaelint.core.finding import Span
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.frames import frame_beside
from vaelint.replay.replay import ReplayError, gradients

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_NOTHING = 1e-9


@dataclass(frozen=True)
class Cancelled:
    """A draw, what the decoder gets, the head without effect on it, and a value between the two through which one of the ways runs."""

    draw: fx.Node
    entry: fx.Node
    head: fx.Node
    through: fx.Node
    place: Span | None  # where draw and head first meet


def cancelled_draws(model: Model) -> list[Cancelled]:
    """Heads that what is decoded is computed from, and does not depend on."""
    found = []
    for root in model.flow.sorted(model.flow.random & model.reaching_loss):
        if not any(n in model.flow.data and n in model.flow.learned for n in ops.value_inputs(root)):
            continue  # noise of its own has nothing to cancel with
        for entry in _entries(model, root):
            heads = [
                h
                for h in frontier([entry], model.flow, stop={root}, through=ops.POINTWISE)
                if h in model.flow.learned and h is not root and h.meta.get("grad")
            ]
            for head in heads:
                try:
                    through = _without_effect(model, root, entry, head, heads)
                except ReplayError:
                    continue
                if through is not None:
                    found.append(Cancelled(root, entry, head, through, _meeting(model, root, head)))
    return found


def _meeting(model: Model, root: fx.Node, head: fx.Node) -> Span | None:
    both = model.flow.descendants(root) & model.flow.descendants(head)
    first = next((n for n in model.flow.sorted(both) if head in model.flow.ancestors(n, stop={root})), None)
    return frame_beside(first, root) if first is not None else None


def _entries(model: Model, root: fx.Node) -> list[fx.Node]:
    """What layers read of a draw, through element-wise operations on it."""
    below = {root}
    entries = []
    for node in model.flow.sorted(model.flow.descendants(root) - {root}):
        if not any(n in below for n in ops.value_inputs(node)):
            continue
        if ops.uses_parameter(node):
            entries += [n for n in ops.value_inputs(node) if n in below and n is not root]
        elif ops.op(node) in ops.POINTWISE | ops.SHAPE | ops.SELECT | {"effect", "detach", "data"}:
            below.add(node)
    return list(dict.fromkeys(entries))


def _without_effect(model: Model, root: fx.Node, entry: fx.Node, head: fx.Node, heads: list[fx.Node]) -> fx.Node | None:
    """A value between head and entry that has an effect, where the head as a whole has none."""
    sizes = dict(model.symbols)
    generator = torch.Generator().manual_seed(9)
    values = {
        n: 0.5 + torch.rand(model.replay.shape_of(n, sizes), dtype=torch.float64, generator=generator)
        for n in dict.fromkeys([root, *heads])
    }
    leaf = values[head].requires_grad_()
    path = model.flow.descendants(head) & model.flow.ancestors(entry, stop={root}) - {head, entry}
    between = [n for n in model.flow.sorted(path) if n.meta.get("grad")]
    got = model.replay([entry, *between], {**values, head: leaf.clone()}, sizes)
    out = got[entry]
    probe = (out * torch.randn(out.shape, dtype=torch.float64, generator=generator)).sum()
    if not probe.requires_grad or not bool(probe.isfinite()):
        return None
    slopes = gradients(probe, [leaf, *(got[n] for n in between)], retain=True)
    if slopes[0] is None or not bool(slopes[0].isfinite().all()):
        return None
    scale = float(probe.detach().abs())
    if float(slopes[0].abs().max()) > _NOTHING * scale:
        return None
    live = [n for n, g in zip(between, slopes[1:], strict=True) if g is not None and float(g.abs().max()) > 1e-6 * scale]
    for node in live:
        (g,) = gradients(got[node], [leaf], retain=True)
        if g is not None and float(g.abs().max()) > 1e-6:
            return node
    return None
