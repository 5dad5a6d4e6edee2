"""Factors whose value is one whatever they are made of, and that only carry a gradient: `exp(log_q - log_q.detach())`.

Source: Foerster et al. 2018, DiCE, where it is called the magic box.
"""

from __future__ import annotations

from torch import fx

from vaelint.record import ops
from vaelint.record.walk import behind

_SAME = ops.CAST | {"detach", "data"}
_KEEPS = ops.CAST | ops.SHAPE | ops.SELECT


def is_one(node: fx.Node) -> bool:
    """Whether the entries of a value are ones by the way it is made."""
    name, ins = ops.op(node), ops.value_inputs(node)
    if name == "exp":
        return bool(ins) and _is_zero(ins[0])
    if name in ops.DIV and len(ins) == 2:
        return _is_held_twin(*ins)
    if name in _KEEPS | {"prod", "mean"}:
        return bool(ins) and is_one(ins[0])
    return name in ops.MUL and len(ins) == 2 and all(map(is_one, ins))


def one_in(node: fx.Node) -> fx.Node | None:
    """Such a factor, or the one that a value is a number of times of: `0.5 * box`."""
    while ops.op(node) in ops.MUL | ops.DIV and len(ins := ops.value_inputs(node)) == 1:
        node = ins[0]
    return node if is_one(node) else None


def costs_of_one(node: fx.Node) -> list[fx.Node]:
    """What a product with such factors is the value of, where that is one thing and has a gradient of its own."""
    ins = ops.value_inputs(node) if ops.op(node) in ops.MUL else []
    costs = [n for n in ins if one_in(n) is None]
    return costs if len(costs) == 1 < len(ins) and costs[0].meta.get("grad") else []


def is_own_variable(node: fx.Node) -> bool:
    """Whether a gradient begins at a value that was computed: `mu.detach().requires_grad_()`."""
    ins = ops.value_inputs(node)
    return bool(ins and node.meta.get("grad")) and not any(n.meta.get("grad") for n in ins)


def is_baseline(node: fx.Node) -> bool:
    """Whether a value is something times such a factor less one: its value is 0, and only that factor has a gradient."""
    return ops.op(node) in ops.MUL and any(map(_is_one_less_one, ops.value_inputs(node)))


def _is_one_less_one(node: fx.Node) -> bool:
    ins = ops.value_inputs(node)
    if ops.op(node) in _KEEPS | {"neg", "negative"}:
        return bool(ins) and _is_one_less_one(ins[0])
    return ops.op(node) in ("sub", "rsub") and len(ins) == 1 and 1 in node.args[:2] and is_one(ins[0])


def _is_zero(node: fx.Node) -> bool:
    """Whether a value is the difference of something and itself without its gradient, or made of such differences alone."""
    name, ins = ops.op(node), ops.value_inputs(node)
    if name in ("sub", "rsub") and len(ins) == 2 and _is_held_twin(*ins):
        return True
    if name in _KEEPS | ops.LINEAR_REDUCE:
        return bool(ins) and _is_zero(ins[0])
    return name in ops.ADD and len(ins) == 2 and all(map(_is_zero, ins))


def _is_held_twin(one: fx.Node, other: fx.Node) -> bool:
    """Whether two values are one and the same, of which the one has no gradient."""
    return behind(one, _SAME) is behind(other, _SAME) and bool(one.meta.get("grad")) != bool(other.meta.get("grad"))
