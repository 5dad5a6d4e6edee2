"""Log-sum-exps as they are written: `logsumexp(u)`, `log(sum(exp(u)))`, and `m + log(sum(exp(u - m)))` with m = max(u)."""

from __future__ import annotations

import torch
from torch import fx

from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.record.walk import back

_LARGEST = frozenset({"max", "amax"})
_CUTS = frozenset({"detach", "data"})


def summed_exponent(node: fx.Node) -> fx.Node | None:
    """x for logsumexp(x) and for log(sum(exp(x))) or log(mean(exp(x)))."""
    reducer = summing_exponentials(node)
    if reducer is None or reducer is node:
        return ops.value_inputs(node)[0] if reducer is node else None
    exponential = reducer.args[0]
    assert isinstance(exponential, fx.Node)
    return ops.value_inputs(exponential)[0]


def summing_exponentials(node: fx.Node) -> fx.Node | None:
    """The operation that sums in logsumexp(x), in log(sum(exp(x))), log(mean(exp(x))) and log(sum(exp(x)) / K)."""
    if ops.op(node) == "logsumexp":
        return node
    inner = ops.value_inputs(node)[:1] if ops.op(node) == "log" else []
    if inner and ops.op(inner[0]) in ops.DIV and len(ops.value_inputs(inner[0])) == 1 and isinstance(inner[0].args[0], fx.Node):
        inner = [inner[0].args[0]]
    if not inner or ops.op(inner[0]) not in ops.LINEAR_REDUCE or not inner[0].args:
        return None
    summed = inner[0].args[0]
    return inner[0] if isinstance(summed, fx.Node) and ops.op(summed) == "exp" else None


def adds_largest_again(node: fx.Node) -> bool:
    """Whether a sum puts back the largest exponent, taken a second time: `max(u) + log(sum(exp(u - max(u))))`, one log-sum-exp."""
    for part in ops.value_inputs(node):
        source = summed_exponent(part)
        taken = taken_off(source) if source is not None else None
        if taken is None:
            continue
        exponents, largest = taken
        for other in (n for n in ops.value_inputs(node) if n is not part):
            way = list(back(other, ops.SHAPE | _CUTS))
            held = any(ops.op(n) in _CUTS for n in way)  # its gradient, which cancels, is left out
            if any((held or n is not largest) and maximum_of(n) is exponents and axes_of(n) == axes_of(largest) for n in way):
                return True
    return False


def taken_off(source: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """u and the value of max(u) in `u - max(u)`."""
    if ops.op(source) != "sub" or len(source.args) < 2:
        return None
    first, second = source.args[0], source.args[1]
    if not isinstance(first, fx.Node) or not isinstance(second, fx.Node) or shape(first) != shape(source):
        return None
    way = list(back(second, ops.SHAPE | ops.SELECT | _CUTS))
    second, largest = way[-1], way[-2] if len(way) > 1 else way[-1]
    if ops.op(second) not in _LARGEST or ops.value_inputs(second)[:1] != [first]:
        return None
    return first, second if isinstance(second.meta.get("val"), torch.Tensor) else largest


def maximum_of(node: fx.Node) -> fx.Node | None:
    """u where the node is the values of max(u)."""
    call = _call_of(node)
    return next(iter(ops.value_inputs(call)), None) if call is not None else None


def axes_of(node: fx.Node) -> tuple[int, ...] | None:
    """The axes over which the node is a maximum."""
    call = _call_of(node)
    return ops.dims_of(call) if call is not None else None


def _call_of(node: fx.Node) -> fx.Node | None:
    """The call of a maximum whose values the node is: that itself, or the first of its two results."""
    values = isinstance(node.meta.get("val"), torch.Tensor)
    if values and ops.op(node) in _LARGEST:
        return node
    inner = ops.value_inputs(node)[:1] if values and ops.op(node) in ops.SELECT else []
    first = bool(inner) and len(node.args) > 1 and (ops.part(node) == 0 or (isinstance(node.args[1], str) and node.args[1] == "values"))
    return inner[0] if first and ops.op(inner[0]) in _LARGEST and not isinstance(inner[0].meta.get("val"), torch.Tensor) else None
