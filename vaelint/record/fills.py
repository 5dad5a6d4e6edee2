"""Tensors filled with one number: `zeros_like(mu)`, and what arithmetic makes of them alone."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import fx

from vaelint.record import ops

_FILLS = {"zeros": 0.0, "zeros_like": 0.0, "new_zeros": 0.0, "ones": 1.0, "ones_like": 1.0, "new_ones": 1.0}
_KEEPS = ops.CAST | ops.SHAPE | (ops.SELECT - {"tril", "triu", "diag"}) | {"detach"}  # a triangle has zeros beside it
_OF_ONE: dict[str, Callable[[float], float]] = {
    "neg": lambda v: -v,
    "negative": lambda v: -v,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "square": lambda v: v * v,
    "reciprocal": lambda v: 1 / v,
}
_OF_TWO: dict[str, Callable[[float, float], float]] = {
    **dict.fromkeys(ops.MUL, lambda a, b: a * b),
    **dict.fromkeys(ops.DIV, lambda a, b: a / b),
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "pow": lambda a, b: a**b,
}


def filled_with(node: object) -> float | None:
    """The number that all elements of a value are, by the way it is made; None where that is not seen."""
    if isinstance(node, int | float):
        return float(node)
    if not isinstance(node, fx.Node) or node.op != "call_function" or node.kwargs.get("out") is not None:
        return None
    name = ops.op(node)
    if name in _FILLS:
        return None if any(_writes(u) for u in node.users) else _FILLS[name]
    if name in _KEEPS:
        return filled_with(node.args[0]) if node.args else None
    values = [filled_with(a) for a in node.args[:2]]
    known = [v for v in values if v is not None]
    if len(known) != len(values) or set(node.kwargs) - {"rounding_mode"}:
        return None
    try:
        if name in _OF_ONE and len(known) == 1:
            return _OF_ONE[name](known[0])
        return _OF_TWO[name](*known) if name in _OF_TWO and len(known) == 2 else None
    except (ArithmeticError, ValueError):
        return None


def _writes(node: fx.Node) -> bool:
    name = ops.raw_name(node)
    return name.endswith("_") and name != "__getitem__"
