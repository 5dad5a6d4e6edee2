"""Weights of a KL that are no number of the objective: that of one side of it alone, and multipliers that training moves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.kl.kl_at_end import is_weighed_apart
from vaelint.anatomy.kl.kl_probe import KNOWN
from vaelint.anatomy.loss.extras import Extra
from vaelint.anatomy.loss.facts import Beta, KlFact, ReconFact
from vaelint.core.reach import reachable
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def why_no_beta(model: Model, beta: Beta, extras: list[Extra]) -> str:
    """What keeps the weight of a KL against its reconstruction from being the beta of the objective; "" where nothing does."""
    if any(e.kind == "held" for e in extras) or is_weighed_apart(model, beta.kl) or _holds_its_posterior(model, beta.kl):
        return "the KL has one weight for the posterior and another for the prior"
    if any(_weighs_parts_apart(beta.recon, other) for other in model.recons):
        return "the reconstruction weighs an element of one part of the data more than one of another"
    if _is_taken_at_random(model, beta.recon):
        return "the reconstruction counts elements that are drawn, and how many it stands for is not known"
    if has_unknown_weight(model):
        return "the weight of another KL of the loss is not known"
    open_scale = not (beta.recon.learned_variance or beta.recon.moving_weight) and (
        beta.recon.density is None or not beta.recon.density.learned
    )
    chains = [leaf.chain for leaf in beta.kl.term.leaves] + ([beta.recon.pair.leaf.chain] if open_scale else [])
    for node in dict.fromkeys(n for chain in chains for n in chain):
        for state in _multipliers(model, node):
            now = f": {_shown(model, state)} is its current value" if _numbers(state) == 1 else ""
            return f"it depends on {_name(state)}, which training changes{now}"
    return ""


def _holds_its_posterior(model: Model, kl: KlFact) -> bool:
    """Whether an addend of a KL in closed form reads the posterior without a gradient to it, as KL balancing trains the prior alone.

    At the draw it is the estimate whose variance vanishes at the optimum (Roeder et al. 2017).
    """
    flow = model.flow
    if kl.probe.monte_carlo:
        return False
    heads, draws = {h for s in kl.term.sites for h in s.heads}, {s.z for s in model.sites}

    def carries(node: fx.Node) -> bool:  # several tensors, as of `unbind`, have no gradient of their own to speak of
        return bool(node.meta.get("grad")) or not isinstance(node.meta.get("val"), torch.Tensor)

    def live(node: fx.Node) -> set[fx.Node]:
        return reachable([node], lambda n: [s for s in ops.value_inputs(n) if carries(s) and ops.op(n) != "detach"], stop=draws)

    return any(heads & flow.ancestors(leaf.node, stop=draws) and not heads & live(leaf.node) for leaf in kl.term.leaves)


def _is_taken_at_random(model: Model, recon: ReconFact) -> bool:
    """Whether the errors are multiplied, element by element, with what is drawn: those that were dropped from the input, say."""
    flow, leaf = model.flow, recon.pair.leaf
    products = [n for n in (leaf.node, *leaf.chain) if ops.op(n) in ops.MUL and len(shape(n)) > 1]
    return any(i in flow.pure_noise and shape(i) == shape(n) for n in products for i in ops.value_inputs(n))


def has_unknown_weight(model: Model) -> bool:
    """Whether the loss has a divergence whose weight was not measured: what another one weighs is not the beta of the whole."""
    return any(k.silent is None and k.probe.verdict not in KNOWN and k.scaling is None for k in model.kls)


def _weighs_parts_apart(one: ReconFact, other: ReconFact) -> bool:
    """Whether two reconstructions are of parts of one output of the decoder, alike but for the weight of an element."""
    if other is one or set(one.pair.raw).isdisjoint(other.pair.raw) or one.probe.kernel != other.probe.kernel:
        return False
    apart = one.pair.recon is not other.pair.recon and one.pair.target is not other.pair.target
    weights = [r.scaling.value for r in (one, other) if r.scaling is not None]
    return apart and len(weights) == 2 and abs(weights[0] - weights[1]) > 1e-6 * max(map(abs, weights))


def _multipliers(model: Model, node: fx.Node) -> Iterator[fx.Node]:
    """The parameters, and buffers that the step changes, that a product weighs a term with."""
    if ops.op(node) not in ops.MUL | ops.DIV:
        return
    for operand in ops.value_inputs(node):
        if operand in model.flow.data or _numbers(operand) != 1:
            continue
        yield from (
            n for n in model.flow.sorted(model.flow.ancestors(operand)) if n.op == "get_attr" and _moves(n) and _is_weight(n, operand)
        )


def _is_weight(state: fx.Node, operand: fx.Node) -> bool:
    """Whether one number is a state of the model, or one of its entries: of a column's deviation, say, as ctgan's TVAE has it."""
    between = operand
    while between is not state and len(ins := ops.value_inputs(between)) == 1:
        between = ins[0]
    return between is state


def _moves(node: fx.Node) -> bool:
    changed = (u for u in node.users if u.args and u.args[0] is node and ops.changes_in_place(ops.raw_name(u)))
    return bool(node.meta.get("parameter")) or any(changed)


def _numbers(node: fx.Node) -> int:
    value = node.meta.get("val")
    return value.numel() if isinstance(value, torch.Tensor) else 0


def _name(node: fx.Node) -> str:
    return str(node.target)


def _shown(model: Model, node: fx.Node) -> str:
    try:
        return f"{float(model.replay([node], {}, model.symbols)[node].detach()):.4g}"
    except ReplayError:
        return "its first"
