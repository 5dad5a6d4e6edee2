"""Terms of the loss that compare a value with a copy of itself, cut off from the gradient or not: they are 0 whatever the parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.faults.likelihood.targets import self_targets
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.walk import behind
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_COPIES = ops.SHAPE | ops.CAST | {"detach", "data", "clone", "effect"}
_LIKELIHOODS = frozenset({"gaussian_nll_loss", "poisson_nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits"})


@dataclass(frozen=True)
class Itself:
    """The comparison, and its two sides."""

    node: fx.Node
    one: fx.Node
    other: fx.Node


def with_itself(model: Model) -> list[Itself]:
    """VAE306: terms that compare a value with a copy of itself; those that `self_targets` tells of aside."""
    told = {own.node for own in self_targets(model)}
    return [found for found in compared_with_itself(model) if found.node not in told]


def compared_with_itself(model: Model) -> list[Itself]:
    """The addends that are a distance between two learned values which are equal in this run, element by element."""
    found = []
    for leaf in model.leaves:
        node = _distance(leaf.node)
        sides = (ops.tensors(node.args) + ops.tensors(dict(node.kwargs)))[:2] if node is not None else []
        if node is None or len(sides) != 2 or not all(n in model.flow.learned for n in sides):
            continue
        is_error = ops.op(node) not in _LIKELIHOODS
        if any(n.meta.get("grad") for n in sides) and (_equal(model, *sides) if is_error else _is_copy(*sides)):
            found.append(Itself(node, *sides))
    return found


def _distance(node: fx.Node) -> fx.Node | None:
    """A loss function, or the difference that is squared or made absolute."""
    if ops.op(node) in {"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"} | _LIKELIHOODS:
        return node
    if ops.op(node) in ("pow", "square", "abs"):
        return next((n for n in ops.value_inputs(node) if ops.op(n) in ("sub", "rsub")), None)
    return None


def _is_copy(one: fx.Node, other: fx.Node) -> bool:
    """Whether one is the other again, cut off or not: a label that was made of it, by a threshold or a softmax, is not."""
    return behind(one, _COPIES) is behind(other, _COPIES)


def _equal(model: Model, one: fx.Node, other: fx.Node) -> bool:
    mine, theirs = behind(one, _COPIES), behind(other, _COPIES)
    if mine is theirs:
        return True
    if mine.meta.get("module") != theirs.meta.get("module") or ops.op(mine) != ops.op(theirs):
        return False
    if _tensors(model, one) != _tensors(model, other):
        return False  # a copy of the network, as a moving average of it is, is equal at the start only
    if model.flow.ancestors(one) & model.flow.random != model.flow.ancestors(other) & model.flow.random:
        return False
    try:
        got = model.replay([one, other], {}, dict(model.record.sizes), seed=2)
    except ReplayError:
        return False
    a, b = got[one], got[other]
    return isinstance(a, torch.Tensor) and a.shape == b.shape and bool((a == b).all()) and bool((a != a.flatten()[0]).any())


def _tensors(model: Model, node: fx.Node) -> set[int]:
    """The parameters and other tensors at hand that a value is computed from."""
    return {id(n.meta.get("val")) for n in model.flow.ancestors(node) if n.op == "get_attr"}
