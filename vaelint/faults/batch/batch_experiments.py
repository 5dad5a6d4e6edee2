"""Experiments on the batch: which samples reach which rows, other batch sizes, shapes, shuffled targets."""

from __future__ import annotations

import math

import torch
from torch import fx

from vaelint.anatomy.reconstruction.pairs import Pair
from vaelint.core.messages import message_of
from vaelint.experiment.runs import calm
from vaelint.experiment.trial import SAME, Trial, differ, tolerance
from vaelint.experiment.verdict import CannotMeasureError, Verdict, experiment, known, number, seen
from vaelint.faults.batch.batch_claims import (
    BroadcastShape,
    DivisorFixed,
    PoisonRow,
    RerunBatch,
    ShuffleTarget,
    SqueezeSingle,
    UnmovedByData,
)
from vaelint.faults.gradients.cuts import reconstruction_ends

_TRIED = 4


def first_line(error: BaseException) -> str:
    """The error's type and first line."""
    text = next((x.strip() for x in message_of(error).splitlines() if x.strip()), "")
    return f"{type(error).__name__}: {text[:140]}" if text else type(error).__name__


@experiment(PoisonRow, "which rows change when one sample is exchanged for another", SAME)
def poison_row(trial: Trial, claim: PoisonRow) -> Verdict:
    """Exchanges single samples and looks for rows of other samples that change."""
    node, base = known(claim.node), trial.again(prepare=calm)
    batch = base.batch
    inputs = {n: trial.batch_axis(n) for n in trial.model.record.inputs.values()}
    moved = {n: a for n, a in inputs.items() if a is not None}
    if batch is None or batch < 2 or not moved:
        raise CannotMeasureError("there is no batch of two or more samples")
    quiet: list[Verdict] = []
    for place in (node, *_downstream(trial, node)):
        axis = trial.batch_axis(place)
        if not base.has(place) or (axis is None and place is not node) or base.value(place).dim() == 0:
            continue
        own = base.value(place).shape[axis or 0] == batch and axis is not None
        name, limit = trial.model.written(place), tolerance(base.value(place))
        touched: set[int] = set()
        stray, moved_most = 0.0, 0.0
        for i in _some(batch):
            gaps = _row_changes(base, place, axis or 0, i, moved, claim.stretch)
            rows = {r for r, gap in enumerate(gaps) if gap > limit}
            if _beyond(rows, i, own):
                return Verdict(True, f"exchanging sample {i} changes rows {_listed(rows)} of {name}", _CALM)
            if rows & touched:
                return Verdict(True, f"one row of {name} changes with several samples", _CALM)
            touched |= rows
            stray = max([stray, *(gap for r, gap in enumerate(gaps) if r != i)], key=lambda g: math.inf if math.isnan(g) else g)
            moved_most = max(moved_most, *gaps)
        if own and moved_most > 0:
            quiet.append(seen(stray, limit, f"exchanging sample i changes row i of {name} only", _CALM))
            if quiet[-1].silent:
                return quiet[-1]
    if not quiet:
        raise CannotMeasureError("no value was found whose rows are the samples")
    return quiet[0]


_CALM = "batch normalisation in evaluation mode, dropout at rate 0, same noise"


def _downstream(trial: Trial, node: fx.Node) -> list[fx.Node]:
    """Where rows are samples: what comes next, z, and the reconstruction, which need not see what was mixed."""
    flow = trial.model.flow
    below = flow.descendants(node)
    near = [n for n in flow.sorted(below) if trial.batch_axis(n) is not None and trial.has(n)][:_TRIED]
    return [*near, *(n for n in (*(s.z for s in trial.model.sites), *reconstruction_ends(trial.model)) if n in below)]


def _some(batch: int) -> list[int]:
    return sorted({0, 1, batch // 2, batch - 1})[:_TRIED]


def _beyond(rows: set[int], sample: int, own: bool) -> bool:
    return bool(rows - {sample}) if own else len(rows) > 1


def _listed(rows: set[int]) -> str:
    shown = ", ".join(map(str, sorted(rows)[:6]))
    return shown + (f" and {len(rows) - 6} more" if len(rows) > 6 else "")


def _row_changes(base: Trial, place: fx.Node, axis: int, sample: int, moved: dict[fx.Node, int], stretch: float = 1.0) -> list[float]:
    """How far each row of `place` changes when `sample` takes the values of another sample, `stretch` times as large."""
    changes, same = {}, {}
    for node, at in moved.items():
        val = same[node] = base.value(node).detach()
        other = next((j for j in range(val.shape[at]) if not torch.equal(val.select(at, j), val.select(at, sample))), sample)
        new = val.clone()
        new.select(at, sample).copy_(val.select(at, other) * stretch)
        changes[node] = new
    try:
        before = base.recompute([place], same)[place].detach()  # again, with the seed that the other gets
        after = base.recompute([place], changes)[place].detach()
    except CannotMeasureError:
        before = base.value(place).detach()

        def exchanged(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> None:
            calm(model)
            for node, new in changes.items():
                inputs[str(base.node(node).meta["input"])].copy_(new)

        after = base.again(prepare=exchanged).value(place).detach()
    a, b = before.movedim(axis, 0), after.movedim(axis, 0)
    if a.shape != b.shape:
        raise CannotMeasureError("its shape changes with the values")
    return [differ(a[r], b[r]) for r in range(a.shape[0])]


@experiment(UnmovedByData, "a value when the samples are in another order, same noise", SAME)
def unmoved_by_data(trial: Trial, claim: UnmovedByData) -> Verdict:
    """Whether a value is the same for other data."""
    node = known(claim.node)

    def shuffled(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> None:
        calm(model)
        for value in inputs.values():
            value.copy_(value.flatten().roll(value[0].numel() if value.dim() else 1).view_as(value))

    base, other = trial.again(prepare=calm), trial.again(prepare=shuffled)
    gap = differ(base.value(node), other.value(node))
    text = f"{trial.model.written(node)} differs by {number(gap)} of its size" if gap else f"{trial.model.written(node)} is the same"
    return seen(gap, tolerance(base.value(node)), text, _CALM, claimed=False)


@experiment(RerunBatch, "the step at another batch size", "raises or not; the shape")
def rerun_batch(trial: Trial, claim: RerunBatch) -> Verdict:
    """Whether the step raises at another batch (one more than now by default), or a node keeps its shape."""
    symbol = trial.model.inputs.batch
    if symbol is None or trial.batch is None:
        raise CannotMeasureError("there is no batch")
    sizes = {symbol: claim.size or trial.batch + 1}
    other = trial.again(sizes)
    size = ", ".join(f"{k}={v}" for k, v in sizes.items())
    if other.record.failure is not None:
        return Verdict(True, f"{size} raises {first_line(other.record.failure.error)}")
    node: fx.Node | None = claim.node
    if node is None:
        return Verdict(False, f"{size} runs")
    was, now = trial.like(node).shape, other.like(node).shape
    return Verdict(was == now, f"{size} gives {tuple(now)}, {trial.batch} gave {tuple(was)}")


@experiment(DivisorFixed, "the divisor at another batch size", "exact")
def divisor_fixed(trial: Trial, claim: DivisorFixed) -> Verdict:
    """Whether the numbers in an operation are the same at another batch size."""
    node, symbol = known(claim.node), trial.model.inputs.batch
    if symbol is None:
        raise CannotMeasureError("there is no batch")
    other = trial.again({symbol: int(claim.size or (trial.batch or 1) + 1)})
    was, now = _numbers(trial.node(node)), _numbers(other.node(node))
    if not was:
        raise CannotMeasureError("the operation has no number of its own")
    return Verdict(was == now, f"{number(was[-1])} at {symbol}={trial.batch}, {number(now[-1])} at {symbol}={other.batch}")


def _numbers(node: fx.Node) -> list[float]:
    """The numbers among a node's arguments, those that were computed from sizes included."""
    found = []
    for a in (*node.args, *node.kwargs.values()):
        value = a.meta.get("val") if isinstance(a, fx.Node) else a
        if isinstance(value, int | float) and not isinstance(value, bool):
            found.append(float(value))
    return found


@experiment(SqueezeSingle, "the step on a batch of one", "raises or not; the shape")
def squeeze_single(trial: Trial, claim: SqueezeSingle) -> Verdict:
    """Whether a batch of one raises, or loses its batch axis at a node."""
    symbol = trial.model.inputs.batch
    if symbol is None:
        raise CannotMeasureError("there is no batch")
    single = trial.again({symbol: 1})
    if single.record.failure is not None:
        return Verdict(True, f"{symbol}=1 raises {first_line(single.record.failure.error)}")
    node: fx.Node | None = claim.node
    if node is None:
        return Verdict(False, f"{symbol}=1 runs")
    was, now = trial.like(node).shape, single.like(node).shape
    lost = len(now) != len(was)
    return Verdict(lost, f"{symbol}=1 gives {tuple(now)}, {symbol}={trial.batch} gave {tuple(was)}")


@experiment(BroadcastShape, "the shapes that meet", "exact")
def broadcast_shape(trial: Trial, claim: BroadcastShape) -> Verdict:
    """Whether the shapes of some values differ; for a comparison with the data, also whether a shuffled target is noticed."""
    nodes: list[fx.Node] = [n for n in claim.nodes if n is not None]
    shapes = [tuple(trial.like(n).shape) for n in nodes]
    names = [trial.model.written(n) for n in nodes]
    texts = [f"{name} {shape}" for name, shape in zip(names, shapes, strict=True)]
    measured = ", ".join(texts)
    if len(set(shapes)) == 1:
        return Verdict(False, measured)
    try:
        together = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
        measured += f"; together {tuple(together)}"
    except RuntimeError:
        return Verdict(True, measured, "they do not even broadcast")
    pair = next((f.pair for f in trial.model.recons if {f.pair.recon, f.pair.target} == set(nodes)), None)
    return Verdict(True, measured, _shuffle_detail(trial, pair) if pair is not None else "")


def _shuffle_detail(trial: Trial, pair: Pair) -> str:
    try:
        before, after, _ = _shuffled_loss(trial, pair)
    except CannotMeasureError:
        return ""
    same = abs(after - before) <= 1e-5 * abs(before)
    return f"shuffling the target in the batch {'leaves the loss at' if same else 'changes the loss from'} {number(before)}" + (
        "" if same else f" to {number(after)}"
    )


@experiment(ShuffleTarget, "the loss with the target shuffled in the batch", f"{SAME}, an eighth of it")
def shuffle_target(trial: Trial, claim: ShuffleTarget) -> Verdict:
    """Whether shuffling the target leaves the loss unchanged."""
    before, after, limit = _shuffled_loss(trial, claim.pair)
    gap = abs(after - before) / (abs(before) or 1.0)
    return seen(gap, limit, f"the loss is {number(before)}, and {number(after)} after the shuffle", claimed=False)


def _shuffled_loss(trial: Trial, pair: Pair) -> tuple[float, float, float]:
    """(loss, loss with the target's rows in another order, tolerance); the reconstructions of the samples made unlike each other."""
    if pair.target is None:
        raise CannotMeasureError("the target was not found")
    target, axis = trial.value(pair.target).detach(), trial.batch_axis(pair.target)
    if axis is None or target.shape[axis] < 2:
        raise CannotMeasureError("the target has no batch of two or more samples")
    inside = trial.model.flow.descendants(pair.meet) | trial.model.flow.descendants(pair.recon)  # the encoder keeps what it saw
    recon = trial.value(pair.recon).detach()
    loss = trial.loss_node
    values = []
    for shift in (0, 1):
        changes = {pair.recon: _apart(recon), pair.target: torch.roll(target, shift, dims=axis)}
        values.append(float(trial.recompute([loss], changes, inside=inside)[loss].detach().double().sum()))
    return values[0], values[1], tolerance(trial.loss) / 8


def _apart(values: torch.Tensor) -> torch.Tensor:
    """Values of the same range, each another: at initialisation the reconstructions of all samples are nearly one."""
    low, high = float(values.min()), float(values.max())
    drawn = torch.rand(values.shape, generator=torch.Generator().manual_seed(17), dtype=torch.float64)
    return (low + (high - low) * drawn).to(values)
