"""What became of gradients in a recorded iteration, in the terms of a replay: its nodes, and the parameters of its copy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from vaelint.observe.seen import Iteration, Minimised
from vaelint.record.record import BackwardCall, IdleStep, Objective, Record
from vaelint.trace.recorded_run import names_of_tensors

Twins = Mapping[fx.Node, fx.Node]


class Copied:
    """The ids of the copy's tensors, for those of the script's own."""

    def __init__(self, iteration: Iteration, source: Record, model: torch.nn.Module, values: Mapping[fx.Node, Any]) -> None:
        self.own = {name: number for number, name in names_of_tensors(model).items()}
        self._ids = {number: self.own[name] for number, name in iteration.names.items() if name in self.own}
        for node in source.graph.nodes:
            if node.op == "get_attr" and isinstance(values.get(node), torch.Tensor):
                self._ids.setdefault(id(node.meta["val"]), id(values[node]))

    def of(self, ids: Iterable[int]) -> frozenset[int]:
        """Those of the copy; what it has no copy of stays what it is."""
        return frozenset(map(self.one, ids))

    def one(self, number: int) -> int:
        """That of one."""
        return self._ids.get(number, number)


def note_gradients(
    made: Record, source: Record, twin: Twins, values: Mapping[fx.Node, Any], ids: Copied, goals: Sequence[Minimised]
) -> None:
    """Notes in a replay the passes, what each goal minimised, and what became of the gradients. The first of `goals` is its own."""
    order = {n: place for place, n in enumerate(made.graph.nodes)}
    kept = [number for number, call in enumerate(source.backwards) if call.node in twin and isinstance(values[call.node], torch.Tensor)]

    def again(call: BackwardCall) -> BackwardCall:
        node = twin[call.node]
        return replace(call, of=values[call.node], node=node, at=order[node] + 1, leaves=ids.of(call.leaves), moved=set(ids.of(call.moved)))

    made.backwards = [again(source.backwards[number]) for number in kept]
    made.uses = [replace(use, of=ids.of(use.of), passes=sum(number < use.passes for number in kept)) for use in source.uses]
    made.inner = ids.of(source.inner)
    made.idle_steps = [IdleStep(s.span, s.cleared, s.turns, ids.of(s.of)) for s in source.idle_steps]
    for goal in goals:
        moved = frozenset(ids.own[name] for name in goal.held if name in ids.own)
        passes = tuple(kept.index(number) for number in goal.calls if number in kept)
        if not moved and len(goals) == 1:
            return  # who moves what is not known
        if not passes:
            stack, node = tuple(goal.loss.meta.get("stack", ())), twin[goal.loss]
            made.backwards.append(BackwardCall(values[goal.loss], False, stack, node, order[node] + 1, moved, "backward", set(moved)))
            passes = (len(made.backwards) - 1,)
        made.objectives.append(Objective(passes, moved, twin[goal.loss]))
