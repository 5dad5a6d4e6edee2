"""Law A7, for recurrent layers that a loop calls step by step: a step goes on from the state that the step before it left.

Asked is where one place of the code calls a recurrent layer with single steps, each time with the same state, and no step's input is made
of what another step gave. Intervention: the input of the first step moves. What that step gives follows, and what the last one gives does
not: the layer has no memory, each step knows its own input and nothing of those before.

Exempt are a state that is made of the data by another way than a draw, as the summary beside which each of several objects is read, steps
that are given no data, or their past as input, from the step before or from another recurrent layer, and results that
are not put side by side as the steps of a sequence, as those of several neighbours that are added up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

from vaelint.core.finding import Severity
from vaelint.experiment.trial import differ
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import route, shape
from vaelint.rule import Found

_LEAST = 4  # steps
_MOVED = 1e-4  # of the size of what a step gives
_LAYERS = frozenset({"gru", "lstm", "rnn_tanh", "rnn_relu"})
_CELLS = frozenset({"gru_cell", "lstm_cell", "rnn_tanh_cell", "rnn_relu_cell"})


@law("states-are-carried", "a step of a recurrent layer goes on from the state of the step before", covered=("VAE116", "VAE514"))
def states_are_carried(bench: Bench) -> Iterator[Broken]:
    """Loops over the steps of a sequence on the way to the loss."""
    model, flow = bench.model, bench.model.flow
    calls = [n for n in model.record.nodes if ops.op(n) in _LAYERS | _CELLS and n in model.reaching_loss]
    turns: dict[Any, list[fx.Node]] = {}
    for node in calls:
        turns.setdefault((route(node), str(_weights(node))), []).append(node)
    for same in turns.values():
        states, inputs = {str(n.args[1]) for n in same}, {n.args[0] for n in same}
        if len(inputs) < max(_LEAST, len(same)) or len(states) != 1 or same[0].args[1] is None or not all(map(_is_one_step, same)):
            continue
        if sum(i in flow.data for i in inputs) < len(same) - 1:
            continue  # the first step of a decoder is given a token that stands for none
        if _sums_up(bench, same[0]):
            continue
        before = [n for n in calls if n in flow.ancestors(*(i for i in inputs if isinstance(i, fx.Node)))]
        if not before and _are_side_by_side(bench, same) and (moved := _moved_by_first(bench, same)) is not None:
            yield _forgotten(bench, same, moved)
            return


def _weights(node: fx.Node) -> object:
    """What a call has as its weights: a list of all of a layer, the first matrix of a cell."""
    return node.args[2] if len(node.args) > 2 else None


def _is_one_step(node: fx.Node) -> bool:
    """Whether a call is given one step: a cell, or a layer whose input is a sequence of one."""
    given = node.args[0]
    if ops.op(node) in _CELLS:
        return True
    batch_first = bool(node.args[8]) if len(node.args) > 8 else False
    return isinstance(given, fx.Node) and len(shape(given)) == 3 and shape(given)[1 if batch_first else 0] == 1


def _sums_up(bench: Bench, node: fx.Node) -> bool:
    """Whether the state that a call starts from is made of the data, not through a draw."""
    given = node.args[1] if isinstance(node.args[1], tuple | list) else (node.args[1],)
    behind = bench.model.flow.ancestors(*(n for n in given if isinstance(n, fx.Node)), stop={s.z for s in bench.model.sites})
    return bool(behind & set(bench.model.record.inputs.values()))


def _are_side_by_side(bench: Bench, same: list[fx.Node]) -> bool:
    """Whether what the steps give is joined, step beside step, or compared with the data one by one."""
    model, flow = bench.model, bench.model.flow
    below = [flow.descendants(n) for n in same]
    joined = set.intersection(*below)
    first = next(iter(flow.sorted(joined)), None)
    compared = [{f.pair.recon for f in model.recons} & each for each in below]
    apart = [{r for r in own if sum(r in other for other in compared) == 1} for own in compared]
    return (first is not None and ops.op(first) in ops.JOIN) or all(apart)


def _moved_by_first(bench: Bench, same: list[fx.Node]) -> float | None:
    """How far another input of the first step moves what that step gives, where the last step stays as it is; None elsewhere."""
    given, ends = same[0].args[0], [_given_back(n) for n in (same[0], same[-1])]
    first, last = ends
    if not isinstance(given, fx.Node) or first is None or last is None or not all(map(bench.knows, (given, first, last))):
        return None
    value = bench.value(given)
    before, after = (bench.after({given: new}, [first, last]) for new in (value.clone(), value + 1.0))
    if not {first, last} <= before.keys() & after.keys():
        return None
    moved = differ(before[first], after[first])
    return moved if moved > _MOVED and not differ(before[last], after[last]) > 0 else None


def _given_back(node: fx.Node) -> fx.Node | None:
    """The tensor that a call gives for its step: the first of several."""
    if isinstance(node.meta.get("val"), torch.Tensor):
        return node
    return next((u for u in node.users if ops.part(u) == 0), None)


def _forgotten(bench: Bench, same: list[fx.Node], moved: float) -> Broken:
    model = bench.model
    state = same[0].args[1]
    start = state[0] if isinstance(state, tuple | list) and state else state
    found = Found(
        model.where(same[0]),
        label=f"starts each of {len(same)} steps from the same state",
        labels=model.labels((start if isinstance(start, fx.Node) else None, "the state that all of them start from")),
        why="what the layer has read of the steps before is dropped: it knows the input of its own step alone",
        help="give the state that a step returns to the next one: y, state = rnn(x_t, state)",
        severity=Severity.WARNING,
    )
    text = f"the first step's input moves what it gives by {moved:.2g} of its size, and nothing of the last of {len(same)} steps"
    return Broken("steps-unread", found, "what a step was given moves the steps after it", text)
