"""Which parameters and values the gradient of a value reaches."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.core.reach import reachable
from vaelint.record import ops
from vaelint.record.walk import behind
from vaelint.replay.per_model import per_model

if TYPE_CHECKING:
    from vaelint.replay.traced import Traced

_SAME = (
    ops.SHAPE
    | ops.SELECT
    | {"data", "detach", "effect"}
    | ops.OVERWRITES
    | {"copy_", "lerp_", "mul_", "add_", "lerp", "mul", "add", "copy"}
)
"""What gives the same tensor, or writes into it: an average is changed by several operations in turn."""


class Gradients:
    """Gradient reachability in one record."""

    def __init__(self, model: Traced) -> None:
        self._record, self._flow, self.trainable = model.record, model.flow, model.trainable

    def carries(self, node: fx.Node) -> bool:
        """Whether a gradient passes through the node's value in the recorded run."""
        if isinstance(node.meta.get("val"), torch.Tensor) or node.meta.get("scalar"):
            return bool(node.meta.get("grad"))
        return any(bool(u.meta.get("grad")) for u in node.users) or any(
            self.carries(u) for u in node.users if u.meta.get("val") is None and ops.op(u) == "getitem"
        )

    def reach(self, *starts: fx.Node, stop: Collection[fx.Node] = ()) -> set[fx.Node]:
        """Nodes that the gradient of `starts` reaches, those behind `stop` left out."""

        def sources(node: fx.Node) -> list[fx.Node]:
            return [n for n in ops.value_inputs(node) if ops.op(node) not in ops.FLAT and n not in stop and self.carries(n)]

        return reachable([n for n in starts if n not in stop and self.carries(n)], sources)

    def names(self, nodes: set[fx.Node]) -> set[str]:
        """The trainable parameters among some nodes."""
        return {self.trainable[i] for n in nodes if n.op == "get_attr" and (i := id(n.meta.get("val"))) in self.trainable}

    @cached_property
    def of_loss(self) -> set[fx.Node]:
        """What the gradient of the loss reaches; of a step that minimises several, of any of them."""
        return self.reach(*self._losses)

    @property
    def _losses(self) -> list[fx.Node]:
        return [n for n in (self._record.loss, *(o.loss for o in self._record.objectives[1:])) if n is not None]

    @cached_property
    def reached(self) -> set[str]:
        """Parameters that the loss moves: of several losses, those that the step moves by each."""
        if not self._record.objectives:
            return self.names(self.of_loss)
        moved = [(o.loss, o.moved) for o in self._record.objectives if o.loss is not None]
        return {n for loss, ids in moved for n in self.names(self.reach(loss)) & {self.trainable[i] for i in ids if i in self.trainable}}

    @cached_property
    def touched(self) -> set[str]:
        """Parameters that some loss of the step gives a gradient, moved or not."""
        if not self._record.objectives:
            return self.reached
        return {n for o in self._record.objectives if o.loss is not None for n in self.names(self.reach(o.loss))}

    def moved_otherwise(self, lost: Collection[str], at: Collection[fx.Node]) -> bool:
        """Whether the step moves parameters that this loss cuts off at some values: by another loss of its own, or after a loop of its
        own has refined what they made (semi-amortised inference), towards what the loop found."""
        others = ((o.loss, o.moved) for o in self._record.objectives[1:] if o.loss is not None)
        by_others = {n for loss, moved in others for n in self.names(self.reach(loss)) & {self.trainable.get(i, "") for i in moved}}
        if lost and set(lost) <= by_others:
            return True
        refined = bool(at) and not self._flow.refined.isdisjoint(self._flow.ancestors(*at))
        return refined and bool(lost) and set(lost) <= self.reached

    @cached_property
    def updated(self) -> set[str]:
        """Parameters that the step changes in place: moving averages."""
        found: set[str] = set()
        for node in self._record.graph.nodes:
            if node.op == "call_function" and ops.changes_in_place(ops.raw_name(node)) and node.args and isinstance(node.args[0], fx.Node):
                found |= self.names({behind(node.args[0], _SAME)})  # not what an activation that is changed in place was made with
        return {n for n in found if n not in self.reached}


@per_model
def gradients_of(model: Traced) -> Gradients:
    """Gradient reachability in the recorded step."""
    return Gradients(model)
