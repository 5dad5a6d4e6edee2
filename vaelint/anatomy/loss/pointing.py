"""The part of a long expression that is meant: of a sum or product over several lines, the operand with the wrong sign or factor.

And the expression on the way to a node that is meant: of a helper module that several share, its call.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from torch import fx

from vaelint.anatomy.loss.facts import KlFact
from vaelint.anatomy.loss.terms import Leaf, part_of
from vaelint.core.finding import Span
from vaelint.core.reach import walked
from vaelint.record import ops
from vaelint.record.record import route, span
from vaelint.source.written import is_literal

if TYPE_CHECKING:
    from vaelint.anatomy.posterior.sites import Site
    from vaelint.replay.traced import Traced


def pointed(model: Traced, node: fx.Node) -> Span | None:
    """The place of an operation; over several lines, that of what is subtracted, of the plain factor, of the divisor."""
    place = span(node)
    if place is None or place.end_line == place.line:
        return place
    written = model.source.file(place.file).at(place)
    if not isinstance(written, ast.BinOp):
        return place
    if isinstance(written.op, ast.Mult) and is_literal(written.left):
        return _place(model, place, written.left)
    return _place(model, place, written.right) if isinstance(written.op, ast.Sub | ast.Mult | ast.Div) else place


def wrong_part(model: Traced, fact: KlFact) -> Span | None:
    """The addend of a KL whose coefficient is not that of the others; the whole formula where it stands on one line, or none is alone. A
    draw that overwrites the mean which the KL reads later stands for itself."""
    site = fact.site
    if fact.probe.monte_carlo and site is not None and ops.changes_in_place(ops.raw_name(site.z)) and site.z.args[0] in site.heads:
        return span(site.z)
    core = own_core(model, fact)
    place = span(core) if core is not None else None
    odd = fact.odd_part
    if place is None or odd is None:
        return place
    parts = [leaf for leaf in fact.term.leaves if _part_of(leaf, fact) == odd]
    if len(parts) != 1 or not parts[0].chain:
        return place
    if place.end_line == place.line:
        return _added_up_before(parts[0], core, place) or place
    found = _operand(model, parts[0].chain[-1], parts[0].node)
    return found if found is not None and place.line <= found.line <= (place.end_line or place.line) else place


def _added_up_before(part: Leaf, core: fx.Node | None, place: Span) -> Span | None:
    """Where an addend got its factors on a line of its own, and the formula gives it none: `logdet = log_diagonal.sum(-1)`."""
    below = part.chain[part.chain.index(core) + 1 :] if core in part.chain else ()
    spans = [(n, span(n)) for n in below if ops.op(n) in ops.MUL | ops.DIV | ops.LINEAR_REDUCE]
    if not spans or any(s is None or s.line == place.line for _, s in spans):
        return None
    return spans[0][1]


def own_core(model: Traced, fact: KlFact) -> fx.Node | None:
    """The element-wise expression of one posterior's KL: of several that are added up, as in a loop, its own."""
    core, site = fact.term.core, fact.site
    own = [leaf for leaf in fact.term.leaves if site is not None and set(site.heads) & set(leaf.frontier)]
    if site is not None and own and len(own) < len(fact.term.leaves):
        return part_of(fact.term, own, [site], model.flow).core or core
    return core


def _part_of(leaf: Leaf, fact: KlFact) -> str | None:
    """Which part of the formula an addend is: of the mean, of the scale's logarithm, of the variance."""
    site = fact.site
    if site is None:
        return None
    if any(h in leaf.frontier for h in site.mu_heads):
        return "m"
    if not any(h in leaf.frontier for h in site.scale_heads):
        return None
    return "1" if leaf.node in site.scale_heads or ops.op(leaf.node).startswith("log") else "s2"


def _operand(model: Traced, outer: fx.Node, inner: fx.Node) -> Span | None:
    """Where an operand of a sum or product is written."""
    place = span(outer)
    written = model.source.file(place.file).at(place) if place is not None else None
    if place is None or not isinstance(written, ast.BinOp):
        return place
    return _place(model, place, written.left if outer.args and outer.args[0] is inner else written.right)


def _place(model: Traced, whole: Span, part: ast.expr) -> Span:
    file = model.source.file(whole.file)
    end = part.end_lineno or part.lineno
    return Span(whole.file, part.lineno, file.column(part.lineno, part.col_offset), end, file.column(end, part.end_col_offset or 0))


def own_place(model: Traced, sites: list[Site], node: fx.Node) -> Span | None:
    """The innermost expression on the way to a node that no other module of the same code runs for something else: of a helper module that
    makes hidden layers as well, its call. Where nothing on the way is its own, the innermost: a call that the loss comes out of as well,
    the step's or the script's, says nothing about one value."""
    stack = route(node)
    module = node.meta.get("module")
    outside = set(route(model.record.loss)) if model.record.loss is not None else set()
    for depth, place in enumerate(stack):
        if place in outside:
            break
        others = [n for n in model.record.graph.nodes if len(route(n)) > depth and route(n)[depth] == place]
        if not any(_sibling(module, n.meta.get("module")) and not _is_statistic(model, sites, n) for n in others):
            return place
    return stack[0] if stack else None


def _is_statistic(model: Traced, sites: list[Site], node: fx.Node) -> bool:
    """Whether a value is a parameter of a distribution like the one accused: on its way to a draw, or to the loss, it meets no layer."""
    ends = {n for s in sites for n in (s.mu, s.scale) if n is not None} | {model.record.loss}

    def after(n: fx.Node) -> list[fx.Node]:
        return [u for u in model.flow.users.get(n, ()) if n not in ends and u in model.reaching_loss]

    return all(n in ends or ((users := after(n)) and not any(map(ops.uses_parameter, users))) for n in walked([node], after))


def _sibling(one: object, other: object) -> bool:
    """Whether two module paths are different modules, neither inside the other."""
    if not isinstance(one, str) or not isinstance(other, str) or one == other:
        return False
    return not (one + ".").startswith(other + ".") and not (other + ".").startswith(one + ".")
