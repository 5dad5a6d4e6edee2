"""One term of the loss alone: everything added to it on the way up is replaced by zeros of its shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from vaelint.anatomy.loss.factors_of_one import one_in
from vaelint.anatomy.loss.terms import Term
from vaelint.record import ops
from vaelint.replay.replay import Replay


def silence_others(term: Term, replay: Replay, sizes: Mapping[str, int]) -> dict[fx.Node, Any]:
    """Overrides that leave `term` as the only addend of the loss. The loss is linear in its terms, so its gradients are the term's."""
    on_path = {n for leaf in term.leaves for n in (*leaf.chain, leaf.node)}
    silenced: dict[fx.Node, Any] = {}
    for node in on_path:
        if ops.op(node) in ops.MUL:
            ones = [one for n in ops.value_inputs(node) if n not in on_path and (one := one_in(n)) is not None]
            silenced.update({n: _of_one(n, node, replay, sizes) for n in ones})
        if ops.op(node) not in ops.ADD | ops.JOIN or node in {leaf.node for leaf in term.leaves}:
            continue
        for operand in ops.value_inputs(node):
            if operand not in on_path and operand not in silenced and not _is_size(operand, node):
                silenced[operand] = _zeros(operand, replay, sizes)
    return silenced


def _of_one(factor: fx.Node, product: fx.Node, replay: Replay, sizes: Mapping[str, int]) -> torch.Tensor:
    """Ones in the place of a factor of one, with its axes where the product has them of it: its gradient is the draw's, not the term's."""
    costs = [n.meta["val"].shape for n in ops.value_inputs(product) if one_in(n) is None and isinstance(n.meta.get("val"), torch.Tensor)]
    spreads = product.meta["val"].shape not in costs
    size = replay.shape_of(factor, sizes) if spreads else (1,) * factor.meta["val"].dim()
    return torch.ones(size, dtype=torch.float64)


def _is_size(operand: fx.Node, user: fx.Node) -> bool:
    """A number that shapes are made of as well: it has no gradient, and zeroed it would take the shapes along."""
    return not isinstance(operand.meta.get("val"), torch.Tensor) and any(u is not user for u in operand.users)


def _zeros(node: fx.Node, replay: Replay, sizes: Mapping[str, int]) -> Any:
    val = node.meta.get("val")
    if isinstance(val, torch.Tensor):
        dtype = torch.float64 if val.is_floating_point() else val.dtype
        return torch.zeros(replay.shape_of(node, sizes), dtype=dtype)
    return 0.0
