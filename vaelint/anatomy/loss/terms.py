"""The loss as a signed sum of terms, each with the role its dependencies give it."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

import torch
from torch import fx

from vaelint.anatomy.loss.addends.agreeing_addends import agreements
from vaelint.anatomy.loss.addends.conditioned_addends import chosen_by_condition, compared
from vaelint.anatomy.loss.addends.masked_addends import picks_rows
from vaelint.anatomy.loss.addends.scored_addends import scored_by_data
from vaelint.anatomy.loss.exponents import adds_largest_again
from vaelint.anatomy.loss.factors_of_one import costs_of_one, is_baseline, is_own_variable
from vaelint.anatomy.loss.layered import layered_nodes, product_of_decoded
from vaelint.anatomy.loss.whole_expression import core_of
from vaelint.anatomy.posterior.products import multiplies_learned
from vaelint.anatomy.posterior.sites import Site, frontier
from vaelint.core.reach import reachable, walked
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.flow import Flow

Role = Literal["reconstruction", "kl", "prior", "mixed", "vq", "discrepancy", "other", "constant"]


@dataclass
class Leaf:
    """One addend: an expression that is not a sum any more, and the linear operations from it up to the loss."""

    node: fx.Node
    chain: tuple[fx.Node, ...]  # from the loss down to (not including) the leaf
    role: Role = "other"
    frontier: tuple[fx.Node, ...] = ()  # raw values it is made of
    factors: tuple[fx.Node, ...] = ()  # tensors it is multiplied with on the way up
    detached: fx.Node | None = None  # the cut on the way up, if any


@dataclass
class Term:
    """All addends of one role that belong together, and where they are written."""

    role: Role
    leaves: list[Leaf]
    sites: list[Site] = field(default_factory=list)
    detached: fx.Node | None = None
    core: fx.Node | None = None  # the element-wise expression, before any reduction


_ONE = {"neg", "negative", "sum", "mean", "nansum", "nanmean", "effect", "positive", "item", "detach", "data", "as_tensor", "tensor"}
LINEAR_UNARY = frozenset(_ONE) | ops.SHAPE | ops.CAST
_THROUGH = ops.REDUCE | ops.SELECT | ops.JOIN | ops.LOSSES | ops.PRODUCT | ops.LINEAR_ALGEBRA | ops.COMPARE | {"setitem", "cov", "corrcoef"}
_LINEAR_SELECT = frozenset({"getitem", "select", "narrow", "index_select", "masked_select"})


def expand(loss: fx.Node, flow: Flow, stop: frozenset[fx.Node] | set[fx.Node] = frozenset()) -> list[Leaf]:
    """The addends of the loss, through sums, differences, constant factors, means and shape operations; `stop` is not taken apart."""
    leaves: list[Leaf] = []
    todo: list[tuple[fx.Node, tuple[fx.Node, ...], fx.Node | None]] = [(loss, (), None)]
    budget = 20_000  # a sum that is used twice is expanded twice; a graph of such sums must still end
    while todo and budget:
        budget -= 1
        node, chain, cut = todo.pop()
        if ops.op(node) in ("detach", "data", "item") or node.meta.get("read"):
            cut = cut or node
        elif (
            cut is None
            and not node.meta.get("grad")
            and node.op == "call_function"
            and any(n.meta.get("grad") for n in ops.value_inputs(node))
        ):
            cut = node  # under no_grad
        baseline = is_baseline(node)  # its value is 0
        whole = node in stop or baseline or is_own_variable(node)
        parts = [] if whole else costs_of_one(node) or _addends(node, flow)
        if not parts and not baseline:
            factors = tuple(
                f for link in chain if ops.op(link) in ops.MUL for f in ops.value_inputs(link) if f in flow.data and f not in flow.learned
            )
            leaves.append(Leaf(node, chain, factors=factors, detached=cut or _cut_inside(node, flow)))
        todo.extend((p, (*chain, node), cut) for p in reversed(parts))
    leaves.sort(key=lambda leaf: flow.order[leaf.node])
    return leaves


def _cut_inside(node: fx.Node, flow: Flow) -> fx.Node | None:
    """The first cut below an addend that no gradient leaves: `f(mu.detach(), logvar.detach())`."""
    if node.meta.get("grad") or node not in flow.learned or node not in flow.data or node.op != "call_function":
        return None

    def live(here: fx.Node) -> list[fx.Node]:
        return [n for n in ops.value_inputs(here) if n in flow.learned]

    return next((n for n in walked([node], live) if any(source.meta.get("grad") for source in live(n))), None)


def _addends(node: fx.Node, flow: Flow) -> list[fx.Node]:
    """The summands of a node that is linear in them; empty when it is not."""
    if node.op != "call_function" or node not in flow.learned:
        return []
    name = ops.op(node)
    ins = ops.value_inputs(node)
    live = [n for n in ins if n in flow.learned]
    if name in ops.ADD:
        return [] if adds_largest_again(node) else ins
    if name in LINEAR_UNARY and len(live) == 1:
        return live
    picked = _picked(node)
    if picked is not None:
        return [picked] if picked in flow.learned else []
    if name in _LINEAR_SELECT and live and live[0] is node.args[0] and isinstance(node.args[0].meta.get("val"), torch.Tensor):
        return live[:1]
    if name in ops.MUL and len(live) == 1 and not ops.is_square(node):
        return live
    if name in ops.DIV and live == [node.args[0]]:
        return live
    if name in ops.MUL | ops.DIV and len(live) == 2:
        weight = next((n for n in live if _is_weight(n, flow)), None)
        if weight is not None and (name in ops.MUL or node.args[0] is not weight):
            return [n for n in live if n is not weight]
    if name in ops.JOIN:
        return ins
    return []


def _picked(node: fx.Node) -> fx.Node | None:
    """The one of several stacked values that an index picks out again: `torch.stack((rec, kl))[0]`."""
    if ops.op(node) not in ("getitem", "select") or not isinstance(source := node.args[0], fx.Node) or ops.op(source) != "stack":
        return None
    index = node.args[-1]
    along = source.kwargs.get("dim", source.args[1] if len(source.args) > 1 else 0)
    parts = source.args[0] if source.args else source.kwargs.get("tensors")
    if along != 0 or type(index) is not int or (ops.op(node) == "select" and node.args[1] != 0) or not isinstance(parts, list | tuple):
        return None
    part = parts[index] if -len(parts) <= index < len(parts) else None
    return part if isinstance(part, fx.Node) else None


def same_values(node: fx.Node) -> list[fx.Node]:
    """All nodes that are this value: the same selection of the same tensor, taken again; what was stacked, for an entry of a stack."""
    while (source := _picked(node)) is not None:
        node = source
    first = node.args[0] if node.args else None
    if ops.op(node) not in ops.SELECT | ops.SHAPE or not isinstance(first, fx.Node):
        return [node]
    return [n for n in first.users if n.target is node.target and n.args == node.args and n.kwargs == node.kwargs]


def _is_weight(node: fx.Node, flow: Flow) -> bool:
    """A learned or detached scalar weight: no gradient to the posterior runs through it."""
    if not node.meta.get("grad"):
        return True
    return node not in flow.data and not isinstance(node.meta.get("val"), type(None)) and node.meta["val"].numel() == 1


def assign_roles(leaves: list[Leaf], sites: list[Site], flow: Flow) -> list[Term]:
    """Gives each addend its role by what it is made of, and gathers them into terms."""
    z = {s.z for s in sites}
    heads = {h for s in sites for h in s.heads}
    draws = {e for s in sites for e in s.noise}
    layered = layered_nodes(flow, sites)
    decoding = {n for n in layered if multiplies_learned(n, flow) or product_of_decoded(n, layered, flow)}
    wholes = _taken_from(heads, flow)
    for leaf in leaves:
        leaf.frontier = tuple(frontier([leaf.node], flow, stop=z | heads | decoding, through=_THROUGH, bare=True))
        leaf.role = _role(leaf, z, heads | _read_whole(wholes, leaf, flow), draws, layered, flow)
        if leaf.role == "kl" and _to_what_was_refined(leaf, flow):
            leaf.role = "other"
    fronts = [leaf.frontier for leaf in leaves]
    for number in (*scored_by_data(fronts, sites, flow), *agreements(fronts, sites, flow)):
        leaves[number].role = "other"
    _complete_reconstructions(leaves, layered if z or heads else flow.learned, flow)
    _complete_pairs(leaves, flow)
    has_log_q = _complete_divergences(leaves, sites, z, heads, flow)
    terms = _gathered(leaves, has_log_q)
    for term in terms:
        _complete(term, sites, flow)
    return terms


def _complete_reconstructions(leaves: list[Leaf], outputs: set[fx.Node] | frozenset[fx.Node], flow: Flow) -> None:
    """Addends without data that belong to a likelihood all the same: its log-variance, a log-gamma of counts, a learned dispersion."""
    decoded = {f for leaf in leaves if leaf.role == "reconstruction" for f in leaf.frontier if f in outputs}
    for leaf in leaves:
        front = set(leaf.frontier)
        of_decoded = bool(front & decoded) and all(f in decoded or f not in flow.data for f in front)
        of_data = leaf.role == "other" and all(f in flow.data and f not in flow.learned for f in front)
        if (leaf.role in ("other", "vq") and of_decoded) or (of_data and _shares_parameter(leaf, leaves, flow)):
            leaf.role = "reconstruction"
    for leaf in chosen_by_condition(leaves, outputs, flow):
        leaf.role = "reconstruction"


def _gathered(leaves: list[Leaf], has_log_q: bool) -> list[Term]:
    """The terms that addends of one role make up, those without a gradient apart; log p(z) beside log q(z) is part of the KL.

    `value.detach() + (surrogate - surrogate.detach())` has each addend once with a gradient: its numbers beside it are no further terms.
    """
    terms: dict[tuple[object, ...], Term] = {}
    live = {leaf.node for leaf in leaves if leaf.detached is None}
    for leaf in leaves:
        if leaf.detached is not None and leaf.node in live:
            continue
        role: Role = "kl" if leaf.role == "prior" and has_log_q else leaf.role
        if role != "constant":
            key = (role, leaf.detached is not None)
            terms.setdefault(key, Term(role, [], detached=leaf.detached)).leaves.append(leaf)
    return list(terms.values())


def _to_what_was_refined(leaf: Leaf, flow: Flow) -> bool:
    """Whether an addend holds what the encoder makes to what a loop of the step made of it: no KL, whatever it is made of."""
    refined = [f for f in leaf.frontier if f in flow.refined]
    return bool(refined) and any(f not in refined and f in flow.data and f in flow.learned for f in leaf.frontier)


def _taken_from(heads: set[fx.Node], flow: Flow) -> set[fx.Node]:
    """The raw values that heads are parts of, or the probabilities of, with the selections between.

    A KL of a whole sequence is one of each step that was drawn by itself; one of logits is that of the classes drawn by probabilities.
    """
    through = ops.SELECT | {"softmax", "log_softmax"}

    def sources(node: fx.Node) -> list[fx.Node]:
        return [n for n in ops.value_inputs(node) if ops.op(node) in through and n in flow.data and n in flow.learned]

    return reachable([n for h in heads for n in sources(h)], sources)


def _read_whole(wholes: set[fx.Node], leaf: Leaf, flow: Flow) -> set[fx.Node]:
    """All of them if the addend reads one without a selection of its own; of another part of theirs nothing was drawn."""
    selected = {n for n in flow.ancestors(leaf.node) if ops.op(n) in ops.SELECT} if wholes else set()
    return wholes if wholes & flow.ancestors(leaf.node, stop=selected) else set()


def part_of(term: Term, leaves: list[Leaf], sites: list[Site], flow: Flow) -> Term:
    """Some addends of a term, with the expression that holds them."""
    part = Term(term.role, leaves, sites, term.detached)
    part.core = core_of(part, flow)
    return part


def _complete_pairs(leaves: list[Leaf], flow: Flow) -> None:
    """A distance between codes and draws of the prior has addends of codes alone: every sample against every other."""
    for leaf in leaves:
        codes = {f for other in leaves if other.role == "discrepancy" for f in other.frontier}
        if leaf.role in ("prior", "other") and leaf.frontier and codes.issuperset(leaf.frontier) and _of_pairs(leaf.node, flow):
            leaf.role = "discrepancy"


def _of_pairs(node: fx.Node, flow: Flow) -> bool:
    return sum("B" in text for text in flow.record.shapes.get(node, ())) > 1


def _complete_divergences(leaves: list[Leaf], sites: list[Site], z: set[fx.Node], heads: set[fx.Node], flow: Flow) -> bool:
    """Gives a KL the addends that see its prior alone; says whether it is estimated at the draw.

    It is where log q(z) stands beside log p(z), or where the KL sees no mean: log q was written in eps.
    """
    divergence = [leaf for leaf in leaves if leaf.role == "kl"]
    priors = [leaf for leaf in leaves if leaf.role == "prior"]
    means = {h for s in sites for h in s.mu_heads}
    at_draw = any(f in z for leaf in divergence for f in leaf.frontier)
    in_noise = bool(divergence) and bool(priors) and not any(f in means for leaf in divergence for f in leaf.frontier)
    parts = divergence + (priors if at_draw or in_noise else [])
    beside = {f for leaf in parts for f in leaf.frontier} - heads - z
    own = flow.ancestors(*(leaf.node for leaf in parts), stop=heads | z) & flow.learned - flow.data
    inside = {n for n in own if n.op == "call_function" or any(n is leaf.node for leaf in leaves)}
    for leaf in leaves:
        of_prior = leaf.node not in flow.data and not inside.isdisjoint(flow.ancestors(leaf.node))  # a prior of the model alone
        if leaf.role == "other" and (all(f in beside and f in flow.learned for f in leaf.frontier) if leaf.frontier else of_prior):
            leaf.role = "kl"  # the log of the prior's variance, the log-determinant of a flow
    return at_draw or in_noise


def gather(role: Role, leaves: list[Leaf], sites: list[Site], flow: Flow) -> Term:
    """Some addends as a term of their own."""
    term = Term(role, leaves, detached=leaves[0].detached if leaves else None)
    _complete(term, sites, flow)
    return term


def _complete(term: Term, sites: list[Site], flow: Flow) -> None:
    """Which posteriors a term sees, and where its formula is written."""
    reached = {f for leaf in term.leaves for f in leaf.frontier}
    term.sites = [s for s in sites if s.z in reached or any(h in reached for h in s.heads)]
    term.core = core_of(term, flow)


def _shares_parameter(leaf: Leaf, leaves: list[Leaf], flow: Flow) -> bool:
    own = {n for n in flow.ancestors(leaf.node) if n.meta.get("parameter")}
    return any(own & _inside(other, flow) for other in leaves if other.role == "reconstruction")


def _inside(leaf: Leaf, flow: Flow) -> set[fx.Node]:
    """What an addend is made of from its raw values on, with what it is multiplied with and divided by on the way up."""
    weighed = [n for link in leaf.chain if ops.op(link) in ops.MUL | ops.DIV for n in ops.value_inputs(link) if n not in flow.data]
    return flow.ancestors(leaf.node, *weighed, stop=set(leaf.frontier))


def _role(leaf: Leaf, z: set[fx.Node], heads: set[fx.Node], draws: set[fx.Node], layered: set[fx.Node], flow: Flow) -> Role:
    """What an addend is, by what stands at its front: the data, the decoder's output, z, the posterior's heads."""
    if leaf.node not in flow.learned:
        return "constant"
    if leaf.node in heads or leaf.node in z:
        return "kl"
    front = set(leaf.frontier)
    decoded, at_z, at_heads = bool(front & layered), bool(front & z), bool(front & heads)
    data = [f for f in leaf.frontier if f.op == "placeholder" or (f in flow.data and f not in flow.learned)]
    if decoded:
        # x * log(y): the target stands beside the addend; which steps count is no target, where it is the posterior that counts there
        data += [f for f in leaf.factors if not (at_heads and _tells_which(f))]
    if at_z or at_heads:
        data = compared(leaf.node, leaf.frontier, data, flow, chosen=at_heads and not decoded)
    if not z and not heads:
        return _role_without_site(leaf, data, [f for f in leaf.frontier if f not in layered and f in flow.learned], flow)
    if data:
        if decoded and (at_heads or at_z) and _nonlinear(leaf.node):
            return "mixed"
        return "reconstruction" if decoded or at_z else "other"
    if at_heads:
        return "kl"
    if at_z:
        return "discrepancy" if _draws_itself(leaf, draws, flow) else "prior"
    return "other"


def _tells_which(node: fx.Node) -> bool:
    """Whether a value is a comparison's: a mask of the steps within a length."""
    while ops.op(node) in ops.CAST | ops.SHAPE and node.all_input_nodes:
        node = node.all_input_nodes[0]
    val = node.meta.get("val")
    return isinstance(val, torch.Tensor) and val.dtype is torch.bool


def _draws_itself(leaf: Leaf, draws: set[fx.Node], flow: Flow) -> bool:
    """Whether noise is drawn inside of an addend that is none of the posteriors'."""
    own = {n for n in flow.ancestors(leaf.node, stop=set(leaf.frontier)) & flow.random if not picks_rows(n)}
    return bool(own - draws - flow.ancestors(*draws))


def _role_without_site(leaf: Leaf, data: list[fx.Node], encoded: list[fx.Node], flow: Flow) -> Role:
    if data and encoded:
        return "reconstruction"
    if any(ops.is_position(n) for n in flow.ancestors(leaf.node)) and len(encoded) >= 1:
        return "vq"
    inside = flow.ancestors(leaf.node, stop=set(encoded)) & flow.random - flow.learned
    if encoded and any(ops.is_random(n) and not picks_rows(n) and not flow.is_decoded(n) for n in inside):
        return "discrepancy"  # codes against draws of the prior; what is drawn by learned parameters, or decoded, is a latent of its own
    return "other"


def _nonlinear(node: fx.Node) -> bool:
    """Whether the addend mixes its parts so that they cannot be taken apart: log-mean-exp, max, a product."""
    return ops.op(node) in ("logsumexp", "log", "max", "maximum", "softmax", "logaddexp")
