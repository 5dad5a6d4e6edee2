"""Steps of a counter that are worked out and dropped: `self.count + 1`, where the KL's weight is made of a buffer that stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.faults.schedule.schedule import StuckWeight
from vaelint.record import ops
from vaelint.record.record import span

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def dropped_steps(model: Model) -> list[StuckWeight]:
    """Sums of a buffer that weighs a KL with a number, which nothing reads and which do not change the buffer."""
    found = []
    for leaf in _weighing_buffers(model):
        for node in leaf.users:
            counted = ops.op(node) in ops.ADD and len(ops.value_inputs(node)) == 1
            in_place = ops.raw_name(node).endswith("_") or ops.op(node).startswith("i")
            if counted and not node.users and not in_place and span(node) is not None:
                name = str(leaf.target).rpartition(".")[2]
                value = model.leaf_value(leaf)
                found.append(StuckWeight(name, float(value) if value is not None else 0.0, 1, span(node), None, dropped=True))
    return found


def _weighing_buffers(model: Model) -> list[fx.Node]:
    """Single numbers, no parameters, that factors of a KL are made of."""
    factors: set[fx.Node] = set()
    for term in model.terms_of("kl"):
        for leaf in term.leaves:
            path = {leaf.node, *leaf.chain}
            for link in leaf.chain:
                if ops.op(link) in ops.MUL | ops.DIV:
                    factors.update(n for n in ops.value_inputs(link) if n not in path)
    made_of = model.flow.ancestors(*factors) if factors else set()
    return [
        n
        for n in model.flow.sorted(made_of)
        if n.op == "get_attr" and n.meta.get("constant") and isinstance(n.meta.get("val"), torch.Tensor) and n.meta["val"].numel() == 1
    ]
