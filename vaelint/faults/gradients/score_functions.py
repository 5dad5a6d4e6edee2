"""Encoders that learn by the density of draws that are held: score functions, and the wake phases of wake-sleep."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.record import ops
from vaelint.record.record import shape

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def weighed_by_decoded(model: Model, lost: Collection[str], ends: Collection[fx.Node]) -> bool:
    """Whether the loss moves parameters by a value that is multiplied by one weight a sample, made of what was decoded and held: importance
    weights or a reward beside `log q(z)` of the draws; or a gradient that was worked out, element by element, beside the logits.

    Sources: Bornschein and Bengio 2015, reweighted wake-sleep; Williams 1992, REINFORCE; Yin and Zhou 2019, ARM.
    """
    gradients, flow = gradients_of(model), model.flow
    of_decoder = gradients.names(flow.ancestors(*ends)) - set(lost)

    def is_drawn(node: fx.Node) -> bool:
        return not flow.random.isdisjoint(flow.ancestors(node))

    def is_weight(node: fx.Node) -> bool:
        val = node.meta.get("val")
        held = node not in gradients.of_loss and isinstance(val, torch.Tensor) and val.dim() > 0
        return held and is_drawn(node) and not of_decoder.isdisjoint(gradients.names(flow.ancestors(node)))

    def is_moving(node: fx.Node, weight: fx.Node) -> bool:
        by_hand = shape(node) == shape(weight) and len(shape(node)) > 1  # a gradient that was worked out, times what it is a gradient in
        moving = node in gradients.of_loss and (is_drawn(node) or by_hand)
        return moving and set(lost) <= gradients.names(gradients.reach(node))

    pairs = [ops.value_inputs(n) for n in gradients.of_loss if ops.op(n) in ops.MUL]
    return bool(lost) and any(is_weight(a) and is_moving(b, a) for p in pairs if len(p) == 2 for a, b in (p, p[::-1]))
