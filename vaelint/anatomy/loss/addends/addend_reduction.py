"""How an addend that is one number already was reduced: a mean loss of torch says so, of other calls nothing is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.scale import Scaling

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_BY_ELEMENT = frozenset({"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits"})


def weight_within(model: Model, node: fx.Node, scaling: Scaling) -> tuple[Scaling, str]:
    """The weight of one element of an addend, and how the elements were put together; "" where one number does not tell.

    Args:
        model: the model.
        node: the addend, (*) or ().
        scaling: the weight of what the addend is.
    """
    if shape(node):
        return scaling, scaling.reduction(()) if any("B" in text for text in model.dims(node)) else ""
    first = node.args[0] if node.args else None
    if ops.op(node) not in _BY_ELEMENT or not isinstance(first, fx.Node) or not shape(first):
        return scaling, ""
    how = node.kwargs.get("reduction", "mean")
    own = [t for t in model.dims(first) if not t.isdigit()]
    if how not in ("mean", "sum") or not all(t in model.symbols for t in own):
        return scaling, ""
    if how == "sum":
        return scaling, scaling.reduction(own)
    exponents, fixed, count = dict(scaling.exponents), 1, 1
    for text, size in zip(model.dims(first), shape(first), strict=True):
        count *= size
        if text.isdigit():
            fixed *= size
        else:
            known = exponents.get(text, 0.0)
            exponents[text] = None if known is None else known - 1
    inner = Scaling(scaling.value / count, exponents, scaling.constant / fixed)
    return inner, inner.reduction(own)
