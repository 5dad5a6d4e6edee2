"""What a formula would be if one of its operations were another: the slips that people make when they write one down.

A law that a formula breaks, and keeps with one operation exchanged, is broken at that operation: the exchange is the place and the repair.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import fx

from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import span
from vaelint.replay.replay import Operation, Replay, ReplayError

_MOST = 400  # exchanges that are tried for one formula
_PATIENCE = 10.0  # seconds of CPU time for all of them: they only tell the place within the formula
_CURVED = frozenset(
    ["log", "exp", "square", "pow", "sqrt", "rsqrt", "reciprocal", "digamma", "lgamma", "softplus", "abs", "log1p", "expm1"]
)
_POWERS: tuple[tuple[str, Callable[[torch.Tensor], torch.Tensor]], ...] = (
    ("{} squared", torch.square),
    ("the square root of {}", torch.sqrt),
    ("the logarithm of {}", torch.log),
    ("the exponential of {}", torch.exp),
)
_OF_MATRICES = frozenset({"matmul", "bmm", "mv", "mm", "solve_triangular", "linalg_solve_triangular", "linalg_solve"})
_NUMBERS: tuple[tuple[str, float], ...] = (("twice {}", 2.0), ("half of {}", 0.5))


@dataclass(frozen=True)
class Exchange:
    """Another operation for one node, or for all that one expression of the code gave in a loop or a helper's calls.

    `words` say what it takes instead of `operand`, which stands for `{}` in them.
    """

    node: fx.Node
    operand: fx.Node
    words: str
    operation: Operation


def mending(replay: Replay, nodes: Iterable[fx.Node], holds: Callable[[], bool]) -> Exchange | None:
    """The exchange of one operation with which a formula keeps what it breaks; None where none does, or several that lie apart.

    Args:
        nodes: the formula's operations, in the order they ran.
        holds: whether it keeps the law, asked anew each time.
    """
    tried, started = 0, time.process_time()
    for kind in (_orders, _transposes, _powers, _signs, _numbers):
        found = []
        for together in _by_expression(kind(nodes)):
            tried += 1
            if tried > _MOST or time.process_time() - started > _PATIENCE:
                return None
            with suppress(ReplayError), replay.exchanged({e.node: e.operation for e in together}):
                if holds():
                    found.append(together[0])
        if found:
            return found[0] if all(_follows(found[0].node, e.node) for e in found) else None
    return None


def _by_expression(exchanges: Iterable[Exchange]) -> list[list[Exchange]]:
    """Exchanges that one place of the code stands for are made together."""
    found: dict[object, list[Exchange]] = {}
    for exchange in exchanges:
        node = exchange.node
        place = span(node)
        operand = node.args.index(exchange.operand) if exchange.operand in node.args else 0
        found.setdefault((place or node, ops.op(node), operand, exchange.words), []).append(exchange)
    return list(found.values())


def _follows(first: fx.Node, node: fx.Node) -> bool:
    """Whether a node is the first, or made of it alone on a way without turns: the same exchange, further along."""
    while node is not first:
        behind = ops.value_inputs(node)
        if first in behind:
            return True
        if len(behind) != 1:
            return False
        node = behind[0]
    return True


def _tensors(node: fx.Node) -> Iterator[tuple[int, fx.Node]]:
    """The operands that are tensors of real numbers, with their places."""
    for i, arg in enumerate(node.args):
        if isinstance(arg, fx.Node) and isinstance(val := arg.meta.get("val"), torch.Tensor) and val.is_floating_point():
            yield i, arg


def _plain(nodes: Iterable[fx.Node]) -> Iterator[fx.Node]:
    for node in nodes:
        if node.op == "call_function" and isinstance(node.meta.get("val"), torch.Tensor) and not ops.changes_in_place(ops.raw_name(node)):
            yield node


def _orders(nodes: Iterable[fx.Node]) -> Iterator[Exchange]:
    """f(sum(x)) for sum(f(x)), and the other way round."""
    for node in _plain(nodes):
        inner = next((a for _, a in _tensors(node)), None)
        if inner is None or inner.op != "call_function" or node.args[0] is not inner:
            continue
        names = (ops.op(node), ops.op(inner))
        if (names[0] in ops.LINEAR_REDUCE and names[1] in _CURVED) or (names[1] in ops.LINEAR_REDUCE and names[0] in _CURVED):
            yield Exchange(node, inner, f"{names[0]} before {names[1]}", partial(_turned, node, inner))


def _turned(node: fx.Node, inner: fx.Node, value_of: Callable[[Any], Any]) -> Any:
    outer_target: Any = node.target
    inner_target: Any = inner.target
    first = outer_target(value_of(inner.args[0]), *value_of(node.args[1:]), **value_of(dict(node.kwargs)))
    return inner_target(first, *value_of(inner.args[1:]), **value_of(dict(inner.kwargs)))


def _transposes(nodes: Iterable[fx.Node]) -> Iterator[Exchange]:
    """A square matrix transposed, in a product or in a solve."""
    for node in _plain(nodes):
        if ops.op(node) not in _OF_MATRICES:
            continue
        for i, operand in _tensors(node):
            size = tuple(operand.meta["val"].shape)
            if len(size) > 1 and size[-1] == size[-2] > 1:
                yield Exchange(node, operand, "{} transposed", partial(_transposed, node, i))


def _transposed(node: fx.Node, place: int, value_of: Callable[[Any], Any]) -> Any:
    target: Any = node.target
    args, kwargs = list(value_of(node.args)), value_of(dict(node.kwargs))
    args[place] = args[place].mT
    if "upper" in kwargs:  # of a triangle
        kwargs["upper"] = not kwargs["upper"]
    return target(*args, **kwargs)


def _powers(nodes: Iterable[fx.Node]) -> Iterator[Exchange]:
    """An operand's square, root, logarithm or exponential for the operand."""
    for node in _plain(nodes):
        for i, operand in _tensors(node):
            for words, function in _POWERS:
                yield Exchange(node, operand, words, partial(_with, node, i, function))


def _signs(nodes: Iterable[fx.Node]) -> Iterator[Exchange]:
    """A difference for a sum, a product for a quotient, and the other way round."""
    for node in _plain(nodes):
        operands = list(_tensors(node))
        if len(node.args) != 2 or not operands:
            continue
        i, operand = operands[-1]
        if ops.op(node) in ops.ADD:
            yield Exchange(node, operand, "minus {}", partial(_with, node, i, torch.neg))
        elif ops.op(node) in ops.MUL | ops.DIV:
            yield Exchange(node, operand, "one over {}", partial(_with, node, i, torch.reciprocal))


def _numbers(nodes: Iterable[fx.Node]) -> Iterator[Exchange]:
    """Twice or half of an operand."""
    for node in _plain(nodes):
        for i, operand in _tensors(node):
            for words, factor in _NUMBERS:
                yield Exchange(node, operand, words, partial(_with, node, i, partial(torch.mul, factor)))


def _with(node: fx.Node, place: int, function: Callable[[Any], Any], value_of: Callable[[Any], Any]) -> Any:
    target: Any = node.target
    args = list(value_of(node.args))
    args[place] = function(args[place])
    return target(*args, **value_of(dict(node.kwargs)))
