"""Inputs beside what is reconstructed: conditions of encoder and decoder, labels that are predicted and decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from vaelint.anatomy.loss.extras import Extra
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.record.walk import forward

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def is_conditioned(model: Model) -> bool:
    """Whether decoder and posterior both get an input that is not what is reconstructed: a label, a condition.

    An input of the target's own shape may be a shifted copy of it, or say which of its elements count; one that is only compared, or only
    says where sequences end, is a length.
    """
    compared = {n for f in model.recons if f.pair.target is not None for n in model.flow.ancestors(f.pair.target) if n.op == "placeholder"}
    if not model.recons or not compared or not model.sites or model.recons[0].probe.kernel == "unknown":
        return False
    sizes = {shape(n) for n in compared}
    stops = {s.z for s in model.sites}
    decoder = _inputs(model.flow.ancestors(*model.recons[0].pair.raw, stop=stops)) - compared
    heads = [h for s in model.sites for h in s.heads]
    both = decoder & _inputs(model.flow.ancestors(*heads)) if heads else set()
    return any(shape(n) not in sizes and not _is_length(n, model) for n in both)


def _is_length(node: fx.Node, model: Model) -> bool:
    users = [u for n in forward(node, model.flow.users, ops.SHAPE | ops.CAST) for u in model.flow.users.get(n, ())]
    ends = [u for u in users if ops.op(u) not in ops.SHAPE | ops.CAST]
    return bool(ends) and all(ops.op(u) in ops.COMPARE or "packed" in ops.op(u) for u in ends)


def labels_are_decoded(model: Model, extra: Extra) -> bool:
    """Whether the labels that are predicted go to the decoder as well, as those of a semi-supervised VAE do."""
    labels = {n for leaf in extra.leaves for n in model.flow.ancestors(leaf.node) if n.op == "placeholder"} & _labels(model)
    return bool(labels & _inputs(model.flow.ancestors(*(r for f in model.recons for r in f.pair.raw))))


def _labels(model: Model) -> set[fx.Node]:
    """The inputs that hold whole numbers."""
    values = ((n, n.meta.get("val")) for n in model.record.inputs.values())
    return {n for n, v in values if v is not None and not v.is_floating_point()}


def _inputs(nodes: set[fx.Node]) -> set[fx.Node]:
    return {n for n in nodes if n.op == "placeholder"}
