"""Where a KL that is measured to be KL(p || q) was turned round: in its formula, or at the call of a helper that is in order.

A helper of two distributions is read as torch.distributions.kl_divergence is: KL(first || second). One that computes this and gets the
prior first is right, and its call is the place.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from torch import fx

from vaelint.anatomy.loss.facts import KlFact
from vaelint.anatomy.loss.pointing import own_core
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.finding import Span
from vaelint.record import ops
from vaelint.record.record import route, span

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def reversed_at(model: Model, fact: KlFact) -> Span | None:
    """The call with the prior first, else the formula, else the term as a whole."""
    core = fact.term.core
    if core is None or fact.site is None:
        return span(core) if core is not None else None
    core = own_core(model, fact) or core
    formula = _formula(model, fact.site, core) or core
    places = route(formula)
    given = _arguments(model, formula) if len(places) > 1 else []
    if len(given) > 1:
        first, *rest = (bool(model.flow.ancestors(n, stop={fact.site.z}) & set(fact.site.heads)) for n in given)
        if not first and any(rest):
            return places[1]
    return span(formula)


def _formula(model: Model, site: Site, core: fx.Node) -> fx.Node | None:
    """The value in which mean and scale of one posterior meet, element by element, before it is summed or joined to others."""
    flow = model.flow
    above = flow.ancestors(core)
    both = flow.descendants(*site.mu_heads, stop={site.z}) & flow.descendants(*site.scale_heads, stop={site.z}) & above
    met = [n for n in flow.sorted(both - {site.z}) if n not in site.heads]
    if site.mu_heads == site.scale_heads or not met:
        return None
    node = met[0]
    while node is not core:
        after = [u for u in flow.users.get(node, ()) if u in above and ops.op(u) in ops.POINTWISE and route(u)[1:] == route(node)[1:]]
        if not after:
            break
        node = min(after, key=flow.order.__getitem__)
    return node


def _arguments(model: Model, formula: fx.Node) -> list[fx.Node]:
    """The values of the parameters of the function that a formula stands in, in their order, as far as its operations tell."""
    place = route(formula)[0]
    function = model.source.function(place)
    if function is None:
        return []
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
    rebound = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    found: dict[str, fx.Node] = {}
    for node in model.flow.sorted(model.flow.ancestors(formula)):  # of a loop this turn alone
        own = route(node)
        if own[1:] != route(formula)[1:] or model.source.function(own[0]) is not function:
            continue
        written = model.source.file(own[0].file).at(own[0])
        operands = _operands(written, names)
        values = [a for a in node.args if isinstance(a, fx.Node)]
        if len(operands) != len(values):
            continue
        for operand, value in zip(operands, values, strict=True):
            if isinstance(operand, ast.Name) and operand.id in names and operand.id not in rebound:
                found.setdefault(operand.id, value)
    return [found[n] for n in names if n in found]


def _operands(written: ast.AST | None, names: list[str]) -> list[ast.expr]:
    """What an operation is written to work on; numbers are left out, and the module in `torch.exp(x)`."""
    if isinstance(written, ast.BinOp):
        parts = [written.left, written.right]
    elif isinstance(written, ast.UnaryOp):
        parts = [written.operand]
    elif isinstance(written, ast.Call):
        receiver = written.func.value if isinstance(written.func, ast.Attribute) else None
        bare = receiver is None or (isinstance(receiver, ast.Name) and receiver.id not in names)
        parts = [*([] if bare or receiver is None else [receiver]), *written.args]
    else:
        parts = []
    return [p for p in parts if not isinstance(p, ast.Constant)]
