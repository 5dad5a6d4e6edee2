"""Where the first number that is not finite came from."""

from __future__ import annotations

import torch
from torch import fx

from vaelint.core.reach import reachable
from vaelint.experiment.trial import Trial
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.record import ops


@dataclass(frozen=True)
class Source:
    """The node that made a number that is not finite out of finite ones."""

    node: fx.Node  # of the real record
    what: str
    backward: bool


def source_of_non_finite(trial: Trial) -> Source | None:
    """The first value that is not finite while its inputs are, else where a gradient stops being finite; None where all is finite."""
    loss = trial.record.loss_value
    if not isinstance(loss, torch.Tensor) or not loss.is_floating_point():
        return None
    if not bool(loss.detach().isfinite().all()):
        return _forward(trial)
    return _backward(trial, loss)


def _finite(node: fx.Node) -> bool:
    val = node.meta.get("val")
    return not isinstance(val, torch.Tensor) or not val.is_floating_point() or bool(val.detach().isfinite().all())


def _forward(trial: Trial) -> Source | None:
    """Only values that parameters have a part in: what a log makes of bare data says nothing about the model."""
    learned: set[fx.Node] = set()
    loss = trial.record.loss
    reached = reachable([loss] if loss is not None else [], ops.value_inputs)
    for node in trial.record.graph.nodes:
        ins = ops.value_inputs(node)
        if node.meta.get("parameter") or any(n in learned for n in ins):
            learned.add(node)
        if node.op == "call_function" and node in learned and node in reached and not _finite(node) and all(_finite(n) for n in ins):
            val = node.meta["val"].detach()
            bad = val[~val.isfinite()].flatten()
            return Source(node, f"{bad.numel()} of {val.numel()} values are {'nan' if bool(bad[0].isnan()) else f'{float(bad[0])}'}", False)
    return None


def _backward(trial: Trial, loss: torch.Tensor) -> Source | None:
    nodes = [n for n in trial.record.graph.nodes if isinstance(n.meta.get("val"), torch.Tensor) and n.meta["val"].requires_grad]
    try:
        grads = dict(zip(nodes, trial.gradient(loss, [n.meta["val"] for n in nodes]), strict=True))
    except CannotMeasureError:
        return None
    bad = {n for n, g in grads.items() if g is not None and not bool(g.isfinite().all())}
    spoiled = {i for n in bad for i in ops.value_inputs(n)}  # their gradient is a sum with one that was not finite already
    for node in reversed(nodes):
        mine = grads[node]
        made = [i for i in ops.value_inputs(node) if i in bad and i not in spoiled]
        if node.op == "call_function" and node not in bad and mine is not None and made:
            return Source(node, "its gradient is not finite", True)
    return None
