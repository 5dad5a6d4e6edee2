"""Where a term gets its sign: the link of its chain that a person would change to turn it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from torch import fx

from vaelint.anatomy.loss.terms import Leaf
from vaelint.record import ops

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def sign_place(model: Model, leaf: Leaf, core: fx.Node | None) -> fx.Node | None:
    """The link that gives a term the wrong sign.

    Of the links from `core` up to where the term joins the others, the outermost that turns the sign. Where none does, the core is a
    negative term by itself, and what lacks a sign is the first constant factor above it; or the core is right, and the join is not, as in
    `-(log_likelihood + kl)`.
    """
    core = core if core is not None else leaf.node
    links = _links(leaf, core)
    own = [pair for pair in links if not _joins(model, leaf, pair[0])]
    join = links[len(links) - len(own) - 1] if len(own) < len(links) else None
    mine = [*([join] if join is not None else []), *own]
    turning = [outer for outer, inner in mine if turns(outer, inner)]
    if turning:
        return turning[0]
    if sum(turns(outer, inner) for outer, inner in links) % 2:
        return join[0] if join is not None else core  # the core is right, and what turns it turns the other terms too
    return next((outer for outer, inner in reversed(own) if _is_factor(outer)), core)


def _links(leaf: Leaf, core: fx.Node) -> list[tuple[fx.Node, fx.Node]]:
    """Each operation above the core with the operand that holds the term, outermost first."""
    nodes = [*leaf.chain, leaf.node]
    end = nodes.index(core) if core in nodes else len(nodes) - 1  # a core of several addends need not be above each
    return list(itertools.pairwise(nodes[: end + 1]))


def _joins(model: Model, leaf: Leaf, node: fx.Node) -> bool:
    """Whether other terms are below the node as well."""
    own = next((t.leaves for t in model.terms if leaf in t.leaves), [leaf])
    return any(other.role != "constant" and other not in own and node in other.chain for other in model.leaves)


def turns(outer: fx.Node, inner: fx.Node) -> bool:
    """Whether an operation puts a minus before this operand."""
    name = ops.op(outer)
    if name in ("neg", "negative"):
        return True
    first = outer.args[0] if outer.args else None
    second = outer.args[1] if len(outer.args) > 1 else outer.kwargs.get("other")
    if name in ("sub", "subtract", "isub"):
        return second is inner and first is not inner
    if name == "rsub":
        return first is inner and second is not inner
    return name in ops.MUL | ops.DIV and any(_negative(a) for a in (first, second))


def _negative(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value < 0


def _is_factor(node: fx.Node) -> bool:
    """Whether the operation multiplies with, or divides by, a plain number."""
    return ops.op(node) in ops.MUL | ops.DIV and any(isinstance(a, int | float) for a in node.args)
