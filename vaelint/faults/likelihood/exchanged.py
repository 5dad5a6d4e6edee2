"""Targets that are the data of another sample than the one that was encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.faults.batch.mixing import batch_of
from vaelint.faults.likelihood.likelihood import broadcast
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_SAMPLES = 5
_KEEPS = ops.POINTWISE | {"reshape", "view", "flatten", "effect", "detach", "data", "expand", "contiguous"}


@dataclass(frozen=True)
class Exchanged:
    """`node` is where the samples of the target change places."""

    fact: ReconFact
    node: fx.Node


def exchanged_targets(model: Model) -> list[Exchanged]:
    """VAE306: reconstructions of each sample in its place, held against another sample of the same input, and never against their own."""
    kept, wrong = set[fx.Node](), list[ReconFact]()
    for fact in model.recons:
        places = _places(model, fact)
        if places is None:
            kept.update(fact.pair.raw)  # unknown: nothing is said of this output
        elif sum(i != j for i, j in enumerate(places)) * 2 < len(places):
            kept.update(fact.pair.raw)
        else:
            wrong.append(fact)
    return [Exchanged(f, _mover(f.pair.target)) for f in wrong if f.pair.target is not None and not kept & set(f.pair.raw)]


def _places(model: Model, fact: ReconFact) -> list[int] | None:
    """For each sample the place of the target that moves with it, where each moves one; None where that is not so or not known."""
    target, samples = fact.pair.target, batch_of(model).samples
    if target is None or target in model.flow.learned or samples is None or broadcast(model, fact) is not None:
        return None
    own, axis = samples.of(fact.pair.recon), _axis(samples.of(fact.pair.recon))
    given = [n for n in model.flow.ancestors(target) if n.op == "placeholder"]
    if own is None or axis is None or not torch.equal(own.flatten(), torch.arange(own.numel(), dtype=own.dtype)) or len(given) != 1:
        return None
    batch, back = batch_of(model).axes.get(given[0]), axis - own.dim()
    if batch is None or given[0] not in model.flow.ancestors(fact.pair.recon) or len(shape(target)) < -back:
        return None
    sizes = {**model.record.sizes, "B": _SAMPLES}
    try:
        base = model.tracer.inputs({"B": _SAMPLES})[str(given[0].meta["input"])]
        base = base.double() if base.is_floating_point() else base
        before = model.replay([target], {given[0]: base}, sizes, seed=3)[target]
        moved = []
        for sample in range(_SAMPLES):
            other = base.clone()
            other.select(batch, sample).copy_(_changed(other.select(batch, sample)))
            after = model.replay([target], {given[0]: other}, sizes, seed=3)[target]
            apart = (after != before).movedim(back, 0).reshape(before.shape[back], -1).any(1)
            moved.append(apart.nonzero().flatten().tolist())
    except (ReplayError, RuntimeError, IndexError):
        return None
    return [rows[0] for rows in moved] if all(len(rows) == 1 for rows in moved) else None


def _axis(labels: torch.Tensor | None) -> int | None:
    """The one axis along which samples lie."""
    axes = [d for d, n in enumerate(labels.shape) if n > 1] if labels is not None else []
    return axes[0] if len(axes) == 1 else None


def _changed(values: torch.Tensor) -> torch.Tensor:
    """Other values of the same kind: a number changes in its fraction, a whole number to one of 0 and 1."""
    return values * 0.5 + 0.25 if values.is_floating_point() else (values == 0).to(values.dtype)


def _mover(node: fx.Node) -> fx.Node:
    """The last operation that does more than reshape: the one that moves samples."""
    while node.op == "call_function" and ops.op(node) in _KEEPS:
        sources = [n for n in ops.value_inputs(node) if not n.meta.get("scalar") and isinstance(n.meta.get("val"), torch.Tensor)]
        if len(sources) != 1 or sources[0].op == "placeholder":
            break
        (node,) = sources
    return node
