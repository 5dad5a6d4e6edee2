"""Weights over several draws of one input: whether the better draw gets the larger one.

The gradient of -log 1/K sum_k w_k is a mean of the draws' own gradients under weights that grow with w_k = p(x, z_k) / q(z_k | x)
(Burda et al. 2016, equation 13): with the loss of a draw in the place of log w_k the worst draw counts most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.anatomy.loss.logsums import is_axis_of_draws, log_sums
from vaelint.anatomy.loss.objective import measure_recon
from vaelint.anatomy.loss.terms import assign_roles, expand
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.per_model import per_model
from vaelint.replay.replay import ReplayError, gradients

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


@dataclass(frozen=True)
class Inverted:
    """A softmax or log-sum-exp over the draws of one input, what it weighs by, and the axis of the draws."""

    node: fx.Node
    score: fx.Node
    axis: int


@per_model
def inverted_weights(model: Model) -> list[Inverted]:
    """Softmaxes and log-sum-exps over draws whose loss grows with the weight of the draws they favour."""
    if not model.has_loss:
        return []
    sums = {s.node: (s.source, s.axes[0]) for s in log_sums(model) if len(s.axes) == 1}
    found = []
    for node in model.flow.sorted(model.reaching_loss & model.flow.noisy & model.decoded):
        scored = softmaxed(node) or sums.get(node)
        if scored is None:
            continue
        source, axis = scored
        if shape(source)[axis] < 2 or source not in model.decoded or decodes_after(model, node):
            continue
        if _is_inverted(model, node, source, axis):
            found.append(Inverted(node, source, axis))
    return found


def inverted_likelihoods(model: Model) -> list[ReconFact]:
    """Likelihoods that lower the log-weight of the draw that explains the data better, in bounds that are maximised.

    None where a whole log-weight is inverted.
    """
    found: list[ReconFact] = []
    if inverted_weights(model):
        return found
    for source in dict.fromkeys(s.source for s in log_sums(model) if len(s.axes) == 1 and s.source in model.decoded):
        axis = next(s.axes[0] for s in log_sums(model) if s.source is source)
        try:
            sign = _sign_of(model, source) if is_axis_of_draws(model, source, axis) else 0
        except ReplayError:
            continue
        stop = {s.z for s in model.sites} | {h for s in model.sites for h in s.heads}
        terms = assign_roles(expand(source, model.flow, stop), model.sites, model.flow) if sign else []
        for term in terms:
            if term.role == "reconstruction":
                rest = (model.flow, model.replay, model.symbols, model.decoded, model.source, model.sites)
                facts = measure_recon(term, source, *rest)
                found += [f for f in facts if f.probe.kernel not in ("other", "unknown") and f.probe.weight * sign < 0]
    return found


def _sign_of(model: Model, source: fx.Node) -> int:
    """The sign of the loss's slope in all scores at once."""
    slope, _ = slope_at(model, source, source)
    if slope is None or not bool(slope.isfinite().all()):
        return 0
    return 1 if bool((slope >= 0).all()) else -1 if bool((slope <= 0).all()) else 0


def softmaxed(node: fx.Node) -> tuple[fx.Node, int] | None:
    """Scores and axis of a softmax over one axis."""
    source, axes = (node.args[0], ops.dims_of(node)) if ops.op(node) == "softmax" and node.args else (None, None)
    return (source, axes[0]) if isinstance(source, fx.Node) and axes is not None and len(axes) == 1 else None


def decodes_after(model: Model, node: fx.Node) -> bool:
    """Whether a layer reads what comes of the node: attention, a mixture of experts."""
    return any(ops.uses_parameter(n) for n in model.flow.descendants(node) & model.reaching_loss if n is not node)


def _is_inverted(model: Model, node: fx.Node, source: fx.Node, axis: int) -> bool:
    try:
        if not is_axis_of_draws(model, source, axis):
            return False
        slope, score = slope_at(model, node, source)
    except ReplayError:
        return False
    if slope is None or not bool(slope.isfinite().all()):
        return False
    if ops.op(node) != "softmax":
        return bool((slope > 0).all())  # minimised: all its scores are losses, and the largest has the largest weight
    s, g = score - score.mean(axis, keepdim=True), slope - slope.mean(axis, keepdim=True)
    up = float((s * g).sum()) / float((s * s).sum()) if float((s * s).sum()) else 0.0
    return up > 0 and float((g - up * s).norm()) < 1e-4 * float(g.norm())


def slope_at(model: Model, node: fx.Node, source: fx.Node) -> tuple[torch.Tensor | None, torch.Tensor]:
    """d loss / d node at the run's own values, and the scores there."""
    loss, sizes = model.record.loss, dict(model.symbols)
    assert loss is not None
    got = model.replay([source, node], {}, sizes)
    leaf = got[node].detach().clone().requires_grad_()
    held = {source: got[source].detach(), node: leaf.clone()} if node is not source else {source: leaf.clone()}
    out = model.replay([loss], held, sizes)[loss]
    return gradients(out, [leaf])[0], got[source].detach()
