"""Draws without a gradient, and what makes up for it: a score function, another loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.anatomy.loss.factors_of_one import one_in
from vaelint.anatomy.loss.layered import layered_nodes
from vaelint.anatomy.loss.terms import Leaf
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.reach import reachable
from vaelint.faults.gradients.cuts import discrete_draws, reconstruction_ends
from vaelint.faults.gradients.score_functions import weighed_by_decoded
from vaelint.record import ops
from vaelint.record.flow import Flow

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def feeds_reconstruction(model: Model, node: fx.Node) -> bool:
    """Whether a reconstruction term, or a bound that holds one, depends on a node."""
    held = [*model.terms_of("reconstruction"), *model.terms_of("mixed")]
    return any(node in model.flow.ancestors(leaf.node) for t in held for leaf in t.leaves)


def learns_otherwise(model: Model, site: Site) -> bool:
    """Whether the step trains a draw's encoder by another loss of its own, or by the density of what is drawn; or holds it for this draw
    alone, and trains it by other values that it puts out (the sleep phase, in one sum with the wake phase)."""
    gradients = gradients_of(model)
    names = gradients.names(model.flow.ancestors(*site.heads))
    held = bool(site.heads) and not any(h.meta.get("grad") for h in site.heads) and bool(names & gradients.reached)
    return held or gradients.moved_otherwise(names, ()) or weighed_by_decoded(model, names, reconstruction_ends(model))


def has_score_function(model: Model, site: Site) -> bool:
    """Whether the loss holds a log-probability of the draw multiplied by something decoded: a score-function estimator."""
    flow = model.flow
    decoded = layered_nodes(flow, [site])

    def sees_decoded(*nodes: fx.Node) -> bool:
        return any(n in decoded for n in flow.ancestors(*nodes))

    def is_weighed_by_decoded(leaf: Leaf) -> bool:
        """By a factor on its way up, cut off from its own gradient or not, or by one inside of it."""
        path = {leaf.node, *leaf.chain}
        outer = [n for link in leaf.chain if ops.op(link) in ops.MUL for n in ops.value_inputs(link) if n not in path]
        if sees_decoded(*outer):
            return True
        products = [ops.value_inputs(n) for n in flow.ancestors(leaf.node) if ops.op(n) in ops.MUL]
        return any(
            len(p) == 2 and any(sees_decoded(a) and {site.z, *site.heads} <= flow.ancestors(b) for a, b in (p, p[::-1])) for p in products
        )

    heads = {*site.heads} if site.kind != "categorical" else {n for h in site.heads for n in raw_forms(model, h)}
    if any(_carries_score(leaf, site, heads, flow) and sees_decoded(leaf.node) for leaf in model.leaves):
        return True
    held = (leaf for leaf in model.leaves if _sees_draw(leaf, site, flow) and any(h in leaf.frontier for h in heads))
    return any(is_weighed_by_decoded(leaf) for leaf in held)


def _carries_score(leaf: Leaf, site: Site, heads: set[fx.Node], flow: Flow) -> bool:
    """Whether a factor of one on an addend's way up brings it the gradient of the draw's log-probability."""
    path = {leaf.node, *leaf.chain}
    outer = (n for link in leaf.chain if ops.op(link) in ops.MUL for n in ops.value_inputs(link) if n not in path and one_in(n))
    return any(site.z in (behind := flow.ancestors(n)) and not heads.isdisjoint(behind) for n in outer)


def _sees_draw(leaf: Leaf, site: Site, flow: Flow) -> bool:
    """Whether an addend is made of the draw, or of the class that it is: `log_p.gather(1, draw.argmax(1))`."""
    classes = (f for f in leaf.frontier if isinstance(val := f.meta.get("val"), torch.Tensor) and not val.is_floating_point())
    return site.z in leaf.frontier or any(site.z in flow.ancestors(f) for f in classes)


def raw_forms(model: Model, head: fx.Node) -> set[fx.Node]:
    """A head and what it is an elementwise or normalised form of: probabilities and their logits are one head."""
    through = ops.POINTWISE | ops.SHAPE | ops.SELECT | {"softmax", "log_softmax", "logsumexp"}

    def sources(node: fx.Node) -> list[fx.Node]:
        formed = node.op == "call_function" and ops.op(node) in through
        return [n for n in ops.value_inputs(node) if n in model.flow.learned] if formed else []

    return reachable([head], sources)


def blocked_draws(model: Model) -> list[Site]:
    """Discrete draws that let no gradient of the reconstruction through, with no score function in the loss to make up for it."""
    return [s for s in discrete_draws(model) if not has_score_function(model, s)]
