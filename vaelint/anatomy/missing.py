"""What should be in the loss and is not, or is there without a gradient."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import fx

from vaelint.anatomy import ops
from vaelint.anatomy.sites import Site, frontier
from vaelint.anatomy.terms import Term
from vaelint.finding import Span
from vaelint.graph import span

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


@dataclass(frozen=True)
class MissingKl:
    """A posterior that nothing holds, and the KL that was computed for it, if any."""

    site: Site
    computed: fx.Node | None


def missing_kl(model: Model) -> MissingKl | None:
    """A Gaussian posterior with a learned scale and no term against its collapse to a point."""
    if any(t.role in ("kl", "prior", "discrepancy", "mixed", "vq") for t in model.terms):
        return None
    heads = {h for s in model.sites for h in s.heads}
    z = {s.z for s in model.sites}
    if any(f in heads for leaf in model.leaves for f in leaf.frontier):
        return None  # a bound that is one function of likelihood and KL, as importance weights make it
    for leaf in model.leaves:
        if leaf.role != "reconstruction" and any(f in heads or f in z or f in model.decoded for f in leaf.frontier):
            return None  # an adversary, or another term that sees the latent
    for site in model.gaussian_sites:
        if site.scale_heads:
            return MissingKl(site, _idle_kl(model, site))
    return None


def _idle_kl(model: Model, site: Site) -> fx.Node | None:
    """The last value made of both heads alone that does not reach the loss."""
    wanted = set(site.heads)
    below = model.flow.descendants(*site.heads, stop={site.z})
    for node in reversed(model.flow.sorted(below - model.reaching_loss)):
        if (
            ops.op(node) in ops.REDUCE | ops.ARITHMETIC
            and not node.meta.get("read")
            and set(frontier([node], model.flow, stop=wanted, through=ops.REDUCE | ops.SELECT)) == wanted
        ):
            return node
    return None


def detached_terms(model: Model, role: str) -> list[Term]:
    """Terms of a role that enter the loss without a gradient, where none enters with one."""
    if any(t.role == role and t.detached is None for t in model.terms):
        return []
    return [t for t in model.terms if t.role == role and t.detached is not None]


def loss_place(model: Model) -> Span | None:
    """Where the loss is put together: the last name given to it, else the expression that made it."""
    node = model.record.loss
    place = span(node) if node is not None else None
    if place is None:
        return None
    name = model.source.assigned(place) if model.source.is_whole_value(place) else ""
    for function in model.source.file(place.file).functions():
        if not name or not function.lineno <= place.line <= (function.end_lineno or function.lineno):
            continue
        for statement in ast.walk(function):
            if (
                isinstance(statement, ast.Assign | ast.Return)
                and statement.lineno > place.line
                and statement.value is not None
                and _hands_on(statement, name)
            ):
                return Span(
                    place.file, statement.lineno, statement.col_offset + 1, statement.end_lineno, (statement.end_col_offset or 0) + 1
                )
    return place


def _hands_on(statement: ast.Assign | ast.Return, name: str) -> bool:
    """`loss = rec`, `return rec`, `return {"loss": rec, ...}`: the value goes on under another name."""
    value = statement.value
    parts = [value, *value.values] if isinstance(value, ast.Dict) else [value, *value.elts] if isinstance(value, ast.Tuple) else [value]
    return any(isinstance(p, ast.Name) and p.id == name for p in parts)


def misplaced_logsumexp(model: Model) -> list[fx.Node]:
    """Log-sum-exps on the way to the loss that reduce the batch and leave another axis."""
    found = []
    for node in model.flow.sorted(model.reaching_loss):
        source = summed_exponent(node)
        if source is None:
            continue
        before, after = model.dims(source), model.dims(node)
        if sum("B" in t for t in before) == 1 and after and not any("B" in t for t in after) and source in model.flow.noisy:
            found.append(node)
    return found


def summed_exponent(node: fx.Node) -> fx.Node | None:
    """x for logsumexp(x) and for log(sum(exp(x))) or log(mean(exp(x)))."""
    if ops.op(node) == "logsumexp":
        return ops.value_inputs(node)[0]
    if ops.op(node) == "log":
        inner = ops.value_inputs(node)
        if (
            inner
            and ops.op(inner[0]) in ops.LINEAR_REDUCE
            and inner[0].args
            and isinstance(inner[0].args[0], fx.Node)
            and ops.op(inner[0].args[0]) == "exp"
        ):
            return inner[0].args[0]
    return None


def split_draws(model: Model) -> list[tuple[fx.Node, fx.Node, fx.Node]]:
    """Monte Carlo KLs whose log q sees one draw of a posterior and whose log p another."""
    by_heads: dict[tuple[fx.Node, ...], list[Site]] = {}
    for s in model.sites:
        by_heads.setdefault(s.heads, []).append(s)
    found = []
    for sites in by_heads.values():
        places = {span(s.z): s for s in sites}
        if len(places) < 2:
            continue
        zs = {s.z for s in sites}
        with_heads = {
            f
            for leaf in model.leaves
            if leaf.role == "kl" and any(h in leaf.frontier for h in sites[0].heads)
            for f in leaf.frontier
            if f in zs
        }
        without = {
            f
            for leaf in model.leaves
            if leaf.role in ("kl", "prior") and not any(h in leaf.frontier for h in sites[0].heads)
            for f in leaf.frontier
            if f in zs
        }
        apart = [z for z in without if z not in with_heads]
        if with_heads and apart:
            leaf = next(leaf for leaf in model.leaves if apart[0] in leaf.frontier and leaf.role in ("kl", "prior"))
            found.append((leaf.node, next(iter(model.flow.sorted(with_heads))), apart[0]))
    return found


def ceiling(model: Model, term: Term) -> fx.Node | None:
    """The operation that cuts a term off from above."""
    inside = {n for leaf in term.leaves for n in (*leaf.chain, *model.flow.ancestors(leaf.node, stop=set(leaf.frontier)))}
    cuts = [
        n
        for n in model.flow.sorted(inside)
        if ops.op(n) in ("clamp", "clip", "clamp_max", "minimum", "min", "hardtanh", "relu", "fmin", "where")
    ]
    return cuts[-1] if cuts else term.core


def sign_place(model: Model, term: Term) -> fx.Node | None:
    """Where a KL gets its wrong sign.

    That is the subtraction that joins it to the other terms, if the term itself is positive, else its own expression.
    """
    leaf = term.leaves[0]
    own = [leaf.chain.index(term.core)] if term.core in leaf.chain else [len(leaf.chain)]
    above = leaf.chain[: own[0]]
    for outer, inner in zip(above, (*above[1:], term.core), strict=False):
        if (
            ops.op(outer) == "sub"
            and len(outer.args) > 1
            and outer.args[1] is inner
            and any(n not in (inner,) and n in model.flow.learned for n in ops.value_inputs(outer))
        ):
            return outer
    return term.core


def swap_place(model: Model, term: Term) -> Span | None:
    """The call that exchanges the parameters: the frame just outside the one that computes the term."""
    stack: tuple[Span, ...] = (term.core.meta.get("stack") or ()) if term.core is not None else ()
    return stack[1] if len(stack) > 1 else (stack[0] if stack else None)
