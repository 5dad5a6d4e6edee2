"""The plain number that keeps a likelihood from being a density: the one that mends it where it is halved, doubled or scaled.

A number (half a bin, a factor) is no operation of its own, so the record holds it as an operand. Where another value of it makes the law
hold, it is where the fault enters, and the line that gives the number its value is the place.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator

import torch
from torch import fx

from vaelint.core.finding import Span
from vaelint.late import dataclass
from vaelint.laws.densities.elementwise import Elementwise
from vaelint.record import ops

_MOST = 24  # values that a number may have to be scaled by

Put = Callable[[torch.Tensor, int], dict[fx.Node, torch.Tensor]]
"""For values of the data and a seed of what the decoder puts out: nodes with the values that they have with another number."""


@dataclass(frozen=True)
class Number:
    """A number of the code that mends the likelihood where it is another."""

    place: Span | None
    words: str


def mending_number(one: Elementwise, holds: Callable[[Put], bool]) -> Number | None:
    """The first number whose half or double, or whose product with a scale of the decoder's, makes the law hold."""
    for size, nodes in _numbers(one).items():
        for factor, words in ((0.5, "twice as large as it must be"), (2.0, "half as large as it must be")):
            if holds(lambda points, seed, nodes=nodes, size=size, factor=factor: _changed(one, points, seed, nodes, size, factor)):  # type: ignore[misc]
                return Number(_given(one, size, nodes), f"{size:.4g} is {words}")
        for scale in _scales(one, nodes):
            if holds(lambda points, seed, nodes=nodes, size=size, scale=scale: _changed(one, points, seed, nodes, size, scale)):  # type: ignore[misc]
                place = one.bench.model.where(nodes[0])
                return Number(place, f"{size:.4g} is not scaled by {one.bench.model.written(scale)}, as the rest is")
    return None


def _numbers(one: Elementwise) -> dict[float, list[fx.Node]]:
    """Numbers that are added, or that a product has, in the slice, by their size; each with the operations that have them."""
    found: dict[float, list[fx.Node]] = {}
    for node in one.bench.model.flow.sorted(one.inside):
        number = _operand(node)
        if number is not None and number != 0 and math.isfinite(number):
            found.setdefault(abs(number), []).append(node)
    return found


def _operand(node: fx.Node) -> float | None:
    """The plain number among the two operands of a sum or product."""
    if ops.op(node) not in ops.ADD | ops.MUL | ops.DIV or len(node.args) != 2:
        return None
    numbers = [a for a in node.args if type(a) in (int, float)]
    return float(numbers[0]) if len(numbers) == 1 else None  # type: ignore[arg-type]


def _scales(one: Elementwise, nodes: list[fx.Node]) -> Iterator[fx.Node]:
    """Positive-looking values of the slice that do not move with the data: what a number may have to be scaled by."""
    if not all(ops.op(n) in ops.ADD for n in nodes):
        return
    flow, ends = one.bench.model.flow, {*one.at.raw, *one.at.parameters, *one.at.conditions}
    still = [n for n in flow.sorted(one.inside) if one.at.target not in flow.ancestors(n, stop=ends)]
    fixed = [n for n in still if one.bench.is_real(n) and ops.op(n) in ("exp", "softplus", "reciprocal")]
    yield from fixed[:_MOST]


def _changed(
    one: Elementwise, points: torch.Tensor, seed: int, nodes: list[fx.Node], size: float, factor: float | fx.Node
) -> dict[fx.Node, torch.Tensor]:
    """The operations with their number changed, one after the other, as a later one may read an earlier."""
    put: dict[fx.Node, torch.Tensor] = {}
    for node in nodes:
        asked = [node, factor] if isinstance(factor, fx.Node) else [node]
        got = one.as_they_are(points, seed, asked, put)
        by = got[factor] if isinstance(factor, fx.Node) else torch.tensor(factor, dtype=torch.float64)
        number = _operand(node)
        assert number is not None
        if ops.op(node) in ops.ADD:
            minus = ops.op(node) in ("sub", "subtract", "isub") and type(node.args[1]) in (int, float)
            put[node] = got[node] + (by - 1) * (-number if minus else number)
        else:
            divides = ops.op(node) in ops.DIV and type(node.args[1]) in (int, float)
            put[node] = got[node] / by if divides else got[node] * by
    return put


def _given(one: Elementwise, size: float, nodes: list[fx.Node]) -> Span | None:
    """The line of the same function that gives a name this number; else where the first operation has it."""
    source, place = one.bench.model.source, one.bench.model.where(nodes[0])
    scope = source.function(place) if place is not None else None
    if place is None or scope is None:
        return place
    for line in ast.walk(scope):
        if isinstance(line, ast.Assign) and _is(line.value, size):
            column = source.file(place.file).column(line.lineno, line.col_offset)
            return Span(place.file, line.lineno, column)
    return place


def _is(value: ast.expr, size: float) -> bool:
    """Whether an expression of plain numbers has this value."""
    if any(not isinstance(n, ast.Constant | ast.BinOp | ast.UnaryOp | ast.operator | ast.unaryop) for n in ast.walk(value)):
        return False
    number = _valued(value)
    return number is not None and math.isclose(abs(number), size, rel_tol=1e-12)


def _valued(value: ast.expr) -> float | None:
    if isinstance(value, ast.Constant) and type(value.value) in (int, float):
        return float(value.value)  # type: ignore[arg-type]
    if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub):
        inner = _valued(value.operand)
        return -inner if inner is not None else None
    if isinstance(value, ast.BinOp):
        left, right = _valued(value.left), _valued(value.right)
        if left is None or right is None:
            return None
        if isinstance(value.op, ast.Div):
            return left / right if right else None
        if isinstance(value.op, ast.Mult):
            return left * right
    return None
