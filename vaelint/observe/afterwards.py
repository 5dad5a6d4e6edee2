"""What the script does once the passes of an iteration are over: which gradients it reads, and what it writes in place.

A multiplier or an average that the script moves by hand belongs to the iteration. Evaluation, logging and saving do not: of what is
computed here only what ends in such a write is kept.
"""

from __future__ import annotations

from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from vaelint.record import ops
from vaelint.record.looked_at import ONE_OF_ONE
from vaelint.record.marks import effect
from vaelint.record.record import Record, ancestors, name_of
from vaelint.trace.recorder import GRAD_GETTER, GRAD_SETTER, VALUE_READERS
from vaelint.trace.torch_private import OF_TENSORS

if TYPE_CHECKING:
    from vaelint.observe.watch import Watch

_MOST = 3000  # operations
_ROOM = 1 << 28  # numbers in what they make
_SHARING = frozenset({"attribute", "data", "detach", "requires_grad_"})
AFTER = "after"


class Afterwards:
    """Says of each call after the passes whether it is recorded. `frame` is the one that calls."""

    def __init__(self, watch: Watch) -> None:
        self._recorder, self._modules, self._spans = watch.recorder, watch.modules, watch.spans
        self.before = set(self._recorder.graph.nodes)
        self.read: dict[fx.Node, None] = {}  # values of the iteration that are read, by metrics for instance
        self._ended, self._room = False, _ROOM

    def __call__(self, func: Any, args: Any, frame: FrameType) -> bool:
        """Whether it is recorded. Gradients that are read or set are noted."""
        updates = self._recorder.updates
        known = (self._recorder.node_for(a) for a in args if isinstance(a, torch.Tensor))
        self.read.update({n: None for n in known if n is not None and n in self.before})
        if func == GRAD_GETTER:
            updates.look(args[0], frame)
        elif func == GRAD_SETTER:
            updates.put(args[0], args[1])
        elif not self._ended and func not in VALUE_READERS and self._is_own(frame):
            self._room -= sum(a.numel() for a in args if isinstance(a, torch.Tensor))
            self._ended = self._modules.running or self._room < 0 or len(self._recorder.graph.nodes) > len(self.before) + _MOST
            return not self._ended
        return False

    def source_of(self, node: fx.Node) -> fx.Node:
        """The value of the iteration that a number made afterwards is of."""
        while node not in self.before and name_of(node.target) in ONE_OF_ONE and node.all_input_nodes:
            node = node.all_input_nodes[0]
        return node

    def _is_own(self, frame: FrameType | None) -> bool:
        """Whether the script calls, if by way of a tensor's own methods."""
        while frame is not None and frame.f_globals.get("__name__") in OF_TENSORS:
            frame = frame.f_back
        return frame is not None and self._spans.is_user(frame.f_code.co_filename)


def keep_writes(record: Record, before: set[fx.Node], gradients: set[int]) -> None:
    """Takes what was recorded since `before` out of a record again, but for what ends in a write that outlasts it.

    `gradients`: the ids of tensors that are gradients, which are written to otherwise.
    """
    late = [n for n in record.nodes if n not in before and n.op != "placeholder"]
    writes = [n for n in late if _outlasts(n, gradients)]
    kept = ancestors(*writes) if writes else set()
    for node in reversed(late):
        if node not in kept and not node.users:
            record.graph.erase_node(node)
        else:  # what else is still read belongs to what comes after, too
            node.meta[AFTER] = True


def _outlasts(node: fx.Node, gradients: set[int]) -> bool:
    """Whether an operation changes, without a gradient, a tensor that was there before it."""
    live = node.meta.get("grad") and not node.meta.get("no_grad")
    if node.op != "call_function" or node.target is effect or live or not ops.changes_in_place(ops.raw_name(node)):
        return False
    root = node.args[0] if node.args else None
    while isinstance(root, fx.Node) and root.args and (ops.raw_name(root) in _SHARING or ops.changes_in_place(ops.raw_name(root))):
        root = root.args[0]
    return isinstance(root, fx.Node) and root.op == "get_attr" and id(root.meta.get("val")) not in gradients


def take_over(record: Record, later: Record, gradients: set[int]) -> None:
    """Where no loader gives the batches an iteration ends with a step. What the script then writes by hand, before it calls a network
    again, is in the `later` record, and is taken over from there."""
    nodes = later.nodes[: later.calls[0].first] if later.calls else []
    made = {n: ancestors(n) for n in nodes if _outlasts(n, gradients)}
    wanted = set[fx.Node]().union(*(behind for behind in made.values() if not any(n.op == "placeholder" for n in behind)))
    mine, twins = set(record.graph.nodes), dict[fx.Node, fx.Node]()
    for node in (n for n in nodes if n in wanted):
        val = node.meta.get("val")
        known = record.node_for(val) if node.op == "get_attr" and isinstance(val, torch.Tensor) else None
        if known is not None and known in mine:
            twins[node] = known
            continue
        twins[node] = record.graph.node_copy(node, twins.__getitem__)
        twins[node].meta = {k: v for k, v in node.meta.items() if k != "scopes"} | {AFTER: True}
