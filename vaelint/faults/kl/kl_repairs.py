"""Repairs of the KL: its sign, its formula, its arguments, its place in the loss."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator, Mapping

from torch import fx

from vaelint.core.edits import Edit, Proposal
from vaelint.core.finding import Span
from vaelint.faults.kl.kl_claims import AddKl, FloorNotCeiling, KlDirection, KlFormula, KlHalf, KlSign, SwapHeads, UseWeight
from vaelint.faults.workbench import Bench, repair
from vaelint.record import ops
from vaelint.record.record import span
from vaelint.source.spot import Spot, propose
from vaelint.source.written import is_literal

_SIGNS = {ast.Add: ("+", "-"), ast.Sub: ("-", "+")}


def other_sign(spot: Spot) -> Edit | None:
    """A sum made a difference, or a difference a sum: the operator between the operands, nothing else."""
    node = spot.node
    left: ast.expr
    if isinstance(node, ast.AugAssign):
        left, right, op = node.target, node.value, node.op
    elif isinstance(node, ast.BinOp):
        left, right, op = node.left, node.right, node.op
    else:
        return None
    signs = _SIGNS.get(type(op))
    if signs is None:
        return None
    start, end = spot.spot(left).span, spot.spot(right).span
    line, column = start.end_line or start.line, start.end_column or 1
    lines = spot.code.file.text.split("\n")
    while line <= end.line:
        text = lines[line - 1][: end.column - 1] if line == end.line else lines[line - 1]
        at = text.find(signs[0], column - 1)
        if at >= 0 and "#" not in text[column - 1 : at]:
            return Edit(Span(start.file, line, at + 1, line, at + 2), signs[1])
        line, column = line + 1, 1
    return None


def negated(spot: Spot) -> Iterator[Edit]:
    """The ways to change the sign of an expression, or of the product around it: a literal factor, a minus, a minus in front."""
    for part in spot.around():
        if not isinstance(part.node, ast.expr):
            break
        if isinstance(part.node, ast.BinOp) and isinstance(part.node.op, ast.Mult):
            for side in part.operands:
                if isinstance(side.node, ast.expr) and is_literal(side.node):
                    text = side.text
                    yield side.to(text[1:].lstrip() if text.startswith("-") else f"-{text}")
        elif isinstance(part.node, ast.UnaryOp) and isinstance(part.node.op, ast.USub):
            if is_literal(part.node.operand):
                continue
            yield part.to(part.operands[0].text)
    yield spot.to(f"-{spot.atom}")


@repair(KlSign)
def kl_sign(bench: Bench, wanted: KlSign) -> Iterator[Proposal]:
    """The other sign, where the KL gets the wrong one."""
    spot = bench.spot(wanted.place)
    if spot is None:
        return
    if wanted.place is not None and ops.op(wanted.place) in ("sub", "isub") and (edit := other_sign(spot)) is not None:
        yield from propose("adds the KL to the loss", edit)
    for edit in negated(spot):
        yield from propose("changes the sign of the KL", edit)


@repair(KlHalf)
def kl_half(bench: Bench, wanted: KlHalf) -> Iterator[Proposal]:
    """The factor 1/2."""
    spot = bench.spot(wanted.core)
    if spot is None:
        return
    for part in spot.around():
        if not isinstance(part.node, ast.expr):
            break
        if isinstance(part.node, ast.UnaryOp) and isinstance(part.node.op, ast.USub):
            yield from propose("multiplies the KL by 0.5", part.to(f"-0.5 * {part.operands[0].atom}"))
    yield from propose("multiplies the KL by 0.5", spot.to(f"0.5 * {spot.atom}"))


@repair(KlFormula)
def kl_formula(bench: Bench, wanted: KlFormula) -> Iterator[Proposal]:
    """One change that could make the formula that of a Gaussian's KL. The measurement of the edited source says which one does."""
    core = wanted.core
    if core is None:
        return
    heads = set(wanted.heads)
    order: list[Spot] = []
    below = bench.model.flow.sorted(bench.model.flow.ancestors(core, stop=heads) - heads)
    for node in reversed(below):
        spot = bench.spot(node)
        if spot is not None and spot not in order:
            order.append(spot)
    names = bench.scope(core)
    readings = [e for s in order for e in other_readings(s, names, heads)]
    signs = [(s, other_sign(s)) for s in order]
    flips = [("changes a sign in the KL", e) for _, e in signs if e is not None]
    powers = [e for s in order for e in _powers(s, names, heads)]
    first, second = (readings, flips) if wanted.reading else (flips, readings)
    for says, edit in (*first, *second, *powers):
        yield from propose(says, edit)


def other_readings(spot: Spot, names: Mapping[str, fx.Node], heads: set[fx.Node]) -> Iterator[tuple[str, Edit]]:
    """The head taken for a log-variance in the place of a log-standard deviation, and the other way round."""
    if spot.called == "exp" and spot.operands:
        inner = spot.operands[0]
        if isinstance(inner.node, ast.BinOp) and isinstance(inner.node.op, ast.Mult):
            for side, other in (inner.operands, inner.operands[::-1]):
                if isinstance(side.node, ast.expr) and is_literal(side.node):
                    yield "drops a factor inside exp", inner.to(other.text)
        elif spot.receiver is not None:
            yield "doubles the argument of exp", inner.to(f"(2 * {inner.atom})")
            yield "halves the argument of exp", inner.to(f"(0.5 * {inner.atom})")
        else:
            yield "doubles the argument of exp", inner.to(f"2 * {inner.atom}")
            yield "halves the argument of exp", inner.to(f"0.5 * {inner.atom}")
    if isinstance(spot.node, ast.BinOp) and isinstance(spot.node.op, ast.Add | ast.Sub):
        for side in spot.operands:
            if isinstance(side.node, ast.Name) and names.get(side.text) in heads:
                yield f"doubles {side.text} in the KL", side.to(f"2 * {side.text}")
                yield f"takes the exponential of {side.text}", side.to(f"{side.text}.exp()")
            elif isinstance(side.node, ast.BinOp) and isinstance(side.node.op, ast.Mult):
                for factor, other in (side.operands, side.operands[::-1]):
                    if isinstance(factor.node, ast.expr) and is_literal(factor.node) and names.get(other.text) in heads:
                        yield f"drops the factor of {other.text}", side.to(other.text)


def _powers(spot: Spot, names: Mapping[str, fx.Node], heads: set[fx.Node]) -> Iterator[tuple[str, Edit]]:
    """A value that the formula wants squared."""
    if isinstance(spot.node, ast.BinOp) and isinstance(spot.node.op, ast.Add | ast.Sub):
        for side in spot.operands:
            if isinstance(side.node, ast.Name) and side.text in names:
                yield f"squares {side.text}", side.to(f"{side.text}.pow(2)")


@repair(SwapHeads)
def swap_heads(bench: Bench, wanted: SwapHeads) -> Iterator[Proposal]:
    """Two arguments of a call exchanged, or two names that its results are given."""
    spot = bench.spot(wanted.place)
    if spot is None:
        return
    names = bench.scope_at(spot)
    given = spot.arguments
    held = [a for a in given if names.get(a.text) in wanted.heads]
    for pairs in ([held] if len(held) == 2 else []), itertools.pairwise(given):
        for a, b in pairs:
            yield from propose(f"exchanges {a.text} and {b.text}", a.to(b.text), b.to(a.text))


@repair(KlDirection)
def kl_direction(bench: Bench, wanted: KlDirection) -> Iterator[Proposal]:
    """KL(posterior || prior)."""
    if wanted.core is None:
        return
    for node in (wanted.core, *bench.model.flow.ancestors(wanted.core)):
        for place in node.meta.get("stack") or ():
            spot = bench.spot(place)
            if spot is not None and "kl" in spot.called.lower() and len(spot.arguments) == 2 and spot.receiver is None:
                a, b = spot.arguments
                yield from propose("takes KL(posterior || prior)", a.to(b.text), b.to(a.text))
                return


@repair(AddKl)
def add_kl(bench: Bench, wanted: AddKl) -> Iterator[Proposal]:
    """The KL that is computed and not added."""
    spot, computed = bench.spot(wanted.place), wanted.computed
    name = bench.source.assigned(span(computed)) if computed is not None else ""
    place = bench.spot(computed) if computed is not None else None
    if spot is None or place is None or not name or spot.function() != place.function():
        return
    value = getattr(spot.node, "value", None) if isinstance(spot.node, ast.stmt) else spot.node
    if isinstance(value, ast.Tuple):
        value = value.elts[0]
    if isinstance(value, ast.Dict):
        value = next((v for k, v in zip(value.keys, value.values, strict=True) if isinstance(k, ast.Constant) and k.value == "loss"), None)
    if isinstance(value, ast.expr):
        yield from propose(f"adds {name} to the loss", spot.spot(value).to(f"{spot.spot(value).text} + {name}"))


@repair(FloorNotCeiling)
def floor_not_ceiling(bench: Bench, wanted: FloorNotCeiling) -> Iterator[Proposal]:
    """A floor of the KL in the place of a ceiling."""
    spot = bench.spot(wanted.node)
    if spot is None:
        return
    says = "makes the limit of the KL a floor, not a ceiling"
    if spot.called in ("clamp", "clamp_", "clip"):
        yield from propose(says, spot.keyword_named("max", "min"))
    other = {"clamp_max": "clamp_min", "minimum": "maximum", "min": "max", "fmin": "fmax"}.get(spot.called)
    if other:
        yield from propose(says, spot.named(other))


@repair(UseWeight)
def use_weight(bench: Bench, wanted: UseWeight) -> Iterator[Proposal]:
    """The stored weight on the KL."""
    kl = {n for fact in bench.model.kls for leaf in fact.term.leaves for n in (leaf.node, *leaf.chain)}
    others = {n for t in bench.model.terms if t.role == "reconstruction" for leaf in t.leaves for n in (leaf.node, *leaf.chain)}
    for node in bench.model.flow.sorted(kl & others):
        spot, names = bench.spot(node), bench.scope(node)
        owner = spot.owner() if spot is not None else None
        if spot is None or owner is None or ops.op(node) not in ops.ADD:
            continue
        for side in spot.operands:
            is_kl = names.get(side.text) in kl - others or any(span(n) == side.span for n in kl - others)
            if is_kl:
                yield from propose(f"multiplies the KL by {wanted.name}", side.to(f"self.{wanted.name} * {side.atom}"))
