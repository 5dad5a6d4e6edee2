"""The plain number that keeps a likelihood from being a density: the one that mends it where it is halved, doubled or scaled.

A number (half a bin, a factor) is no operation of its own, so the record holds it as an operand. Where another value of it makes the law
hold, it is where the fault enters, and the line that gives the number its value is the place.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping

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
    """Numbers that are added, or that a product has, in the slice, by their size; each with the operations that have them.

    Those that only say in which unit the data is come last: the decoder puts out what is in that unit.
    """
    found: dict[float, list[fx.Node]] = {}
    for node in one.bench.model.flow.sorted(one.inside):
        number = _operand(node)
        if number is not None and number != 0 and math.isfinite(number):
            found.setdefault(abs(number), []).append(node)
    return dict(sorted(found.items(), key=lambda item: all(_is_a_unit(one, n) for n in item[1])))


def _is_a_unit(one: Elementwise, node: fx.Node) -> bool:
    """Whether the number multiplies or divides the data before anything that is learned meets it."""
    return ops.op(node) not in ops.ADD and node in one.bench.model.flow.data - one.bench.model.flow.learned


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
    """The line that gives a name this number, of the same function or else of its module; else where the first operation has it."""
    source, place = one.bench.model.source, one.bench.model.where(nodes[0])
    scope = source.function(place) if place is not None else None
    if place is None or scope is None:
        return place
    file = source.file(place.file)
    outer = _assigned(file.tree.body)
    inner = _assigned(n for n in ast.walk(scope) if isinstance(n, ast.stmt))
    read = {n.id for n in ast.walk(scope) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    known = {**outer, **inner}
    for value in (*inner.values(), *(value for name, value in outer.items() if name in read and name not in inner)):
        number = _valued(value, known)
        if number is not None and math.isclose(abs(number), size, rel_tol=1e-12):
            return Span(place.file, value.lineno, file.column(value.lineno, value.col_offset))
    return place


def _assigned(body: Iterable[ast.stmt]) -> dict[str, ast.expr]:
    """Names that are given one value, once."""
    given: dict[str, ast.expr] = {}
    again: set[str] = set()
    for line in body:
        targets = line.targets if isinstance(line, ast.Assign) else [line.target] if isinstance(line, ast.AnnAssign | ast.AugAssign) else []
        for target in targets:
            if isinstance(target, ast.Name) and isinstance(line, ast.Assign | ast.AnnAssign) and line.value is not None:
                again |= {target.id} & set(given)
                given[target.id] = line.value
            elif isinstance(target, ast.Name):
                again.add(target.id)
    return {name: value for name, value in given.items() if name not in again}


def _valued(value: ast.expr, known: Mapping[str, ast.expr], depth: int = 8) -> float | None:
    """The number that an expression of plain numbers, and of names for such, stands for."""
    if isinstance(value, ast.Constant) and type(value.value) in (int, float):
        return float(value.value)  # type: ignore[arg-type]
    if isinstance(value, ast.Name) and value.id in known and depth:
        return _valued(known[value.id], known, depth - 1)
    if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub):
        inner = _valued(value.operand, known, depth)
        return -inner if inner is not None else None
    if isinstance(value, ast.BinOp) and (joined := _OPERATORS.get(type(value.op))) is not None:
        left, right = _valued(value.left, known, depth), _valued(value.right, known, depth)
        if left is not None and right is not None and (right or not isinstance(value.op, ast.Div)):
            return joined(left, right)
    return None


_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
