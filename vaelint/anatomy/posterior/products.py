"""Products with something made of parameters alone, which decode as layers do."""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx

from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.record.record import shape


def multiplies_learned(node: fx.Node, flow: Flow) -> bool:
    """A product with something made of parameters alone: topic words, loadings that are kept positive. Or one in logarithms."""
    factors = ops.value_inputs(node)
    if ops.op(node) == "logsumexp" and factors and ops.op(factors[0]) in ops.ADD:
        summands = ops.value_inputs(factors[0])
        return len(summands) == 2 and any(
            _is_learned(one, flow) and _is_matrix_of(shape(one), shape(other)) for one, other in (summands, summands[::-1])
        )
    return ops.op(node) in ops.PRODUCT and any(_is_learned(i, flow) for i in factors)


def _is_learned(node: fx.Node, flow: Flow) -> bool:
    return node in flow.learned and node not in flow.data


def _is_matrix_of(own: Sequence[int], other: Sequence[int]) -> bool:
    """Whether one summand has an axis along which the other is stretched, and another in common: else it holds weights of a mixture."""
    pairs = list(zip(reversed(own), reversed(other), strict=False))
    return any(a > 1 and b == 1 for a, b in pairs) and any(a > 1 and a == b for a, b in pairs)
