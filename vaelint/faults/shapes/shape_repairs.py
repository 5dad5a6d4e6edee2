"""Repairs of shapes: sizes that do not fit, axes that are taken for one another, the batch written down as a number."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from torch import fx

from vaelint.core.edits import Proposal
from vaelint.faults.shapes.shapes_claims import (
    BatchFirst,
    BatchFromTensor,
    BatchToFront,
    ReduceSamples,
    SoftmaxAxis,
    SplitFeatures,
    SqueezeAxis,
)
from vaelint.faults.workbench import Bench, repair
from vaelint.record.record import Record, name_of, shape
from vaelint.source.spot import Spot, propose
from vaelint.source.written import is_literal

_RECURRENT = ("LSTM", "GRU", "RNN")


def sizes_that_fit(bench: Bench) -> Iterator[Proposal]:
    """For a step that raised in a linear layer: the number of features that arrives there, in the layer's constructor.

    Only where numbers are written: a name may stand for something that another call has otherwise.
    """
    record: Record = bench.record
    failure = record.failure
    if failure is None or failure.fn is None or name_of(failure.fn) != "linear" or not failure.births:
        return
    tensors = [a for a in failure.args if isinstance(a, fx.Node) and shape(a)]
    made = bench.spot(failure.births[0])
    if len(tensors) < 2 or made is None or made.called != "Linear":
        return
    met, wanted = shape(tensors[0])[-1], shape(tensors[1])[-1]
    features = made.keyword("in_features") or next(iter(made.arguments), None)
    if features is not None and met != wanted and isinstance(features.node, ast.expr) and is_literal(features.node):
        yield from propose(f"makes the layer for the {met} features that arrive, not {wanted}", features.to(str(met)))


@repair(BatchFromTensor)
def batch_from_tensor(bench: Bench, wanted: BatchFromTensor) -> Iterator[Proposal]:
    """The size of the batch taken from a tensor."""
    pin = wanted.pin
    spot = bench.spot(pin.span)
    names = bench.scope(pin.node) if pin.node is not None else {}
    if spot is None:
        return
    of_data = (n for n, held in names.items() if held in bench.model.flow.data and shape(held)[:1] == (pin.size,))
    rows = bench.name_of(pin.partner, names) or bench.batch_tensor(names) or next(of_data, None)
    if not rows:
        return
    says = f"takes the size of the batch from {rows}"
    for part in spot.inside():
        node = part.node
        literal = isinstance(node, ast.Constant) and node.value == pin.size
        named = isinstance(node, ast.Name | ast.Attribute) and part.text not in names and _is_size(bench, part, pin.size)
        if (literal or named) and part.node is not spot.node:
            yield from propose(says, part.to(f"{rows}.size(0)"))


def _is_size(bench: Bench, spot: Spot, size: int) -> bool:
    """Whether an attribute of the model, or a name that is assigned a literal, is that number."""
    text = spot.text
    if text.startswith("self."):
        return any(getattr(m, text[5:], None) == size for m in bench.record.model.modules())
    return any(
        isinstance(n, ast.Assign)
        and any(isinstance(t, ast.Name) and t.id == text for t in n.targets)
        and isinstance(n.value, ast.Constant)
        and n.value.value == size
        for n in ast.walk(spot.code.file.tree)
    )


@repair(BatchFirst)
def batch_first(bench: Bench, wanted: BatchFirst) -> Iterator[Proposal]:
    """The layer told that the batch comes first, or the last step taken along the right axis."""
    made = bench.spot(wanted.made) if wanted.made is not None else None
    if made is not None and made.called in _RECURRENT and made.keyword("batch_first") is None:
        yield from propose("makes the layer for (batch, time, features)", made.with_argument("batch_first=True"))
    spot = bench.spot(wanted.called) if wanted.called is not None else None
    if spot is not None and isinstance(spot.node, ast.Subscript):
        index = spot.spot(spot.node.slice)
        yield from propose("takes the last step, not the last sample", index.to(f":, {index.text}"))


@repair(BatchToFront)
def batch_to_front(bench: Bench, wanted: BatchToFront) -> Iterator[Proposal]:
    """The batch axis moved to the front before a reshape."""
    cause: fx.Node = wanted.cause
    spot = bench.spot(cause)
    source = wanted.source
    texts = bench.model.dims(source)
    axis = next((d for d, t in enumerate(texts) if t == "B"), None)
    if spot is None or spot.receiver is None or spot.called not in ("view", "reshape"):
        return
    if axis:
        moved = f"{spot.receiver.atom}.transpose(0, {axis}).reshape"
        arguments = ", ".join(a.text for a in spot.arguments)
        yield from propose("moves the batch axis to the front before it reshapes", spot.to(f"{moved}({arguments})"))
    yield from split_features(bench, SplitFeatures(cause, source))
    if axis == 0 and spot.arguments:
        yield from propose("keeps the samples apart", spot.to(f"{spot.receiver.atom}.flatten(1)"))


@repair(SplitFeatures)
def split_features(bench: Bench, wanted: SplitFeatures) -> Iterator[Proposal]:
    """A split along the features in the place of one along the batch."""
    spot, source = bench.spot(wanted.cause), wanted.source
    if spot is None:
        return
    says = "splits the features, not the batch"
    if spot.called in ("chunk", "split", "tensor_split", "unbind"):
        dim = spot.keyword("dim", "axis")
        if dim is not None:
            yield from propose(says, dim.to("1"))
            yield from propose(says, dim.to("-1"))
        else:
            place = spot.arguments[1 if spot.receiver is not None else 2 :]
            yield from propose(says, place[0].to("1") if place else spot.with_argument("dim=1"))
            yield from propose(says, place[0].to("-1") if place else spot.with_argument("dim=-1"))
    if spot.called in ("view", "reshape") and spot.receiver is not None and len(spot.arguments) >= 2:
        given = [a.text for a in spot.arguments]
        parts, rest = given[0], given[2:]
        if parts.isdigit() and given[1] == "-1" and len(shape(source)) >= 2:
            yield from propose(says, spot.to(f"{spot.receiver.atom}.{spot.called}(-1, {', '.join([parts, *rest])}).unbind(1)"))


@repair(SqueezeAxis)
def squeeze_axis(bench: Bench, wanted: SqueezeAxis) -> Iterator[Proposal]:
    """The axes of size 1 named, so that the batch is none of them."""
    node, source = wanted.node, wanted.source
    spot = bench.spot(node)
    if spot is None or spot.called != "squeeze":
        return
    axes = [d for d, n in enumerate(shape(source)) if n == 1 and d > 0]
    if not axes or (spot.arguments if spot.receiver is not None else spot.arguments[1:]):
        return
    named = str(axes[0]) if len(axes) == 1 else str(tuple(axes))
    yield from propose("squeezes the axes of size 1 by number, never the batch", spot.with_argument(named))


@repair(SoftmaxAxis)
def softmax_axis(bench: Bench, wanted: SoftmaxAxis) -> Iterator[Proposal]:
    """The softmax over the last axis."""
    node: fx.Node = wanted.node
    layer = next((c.module for c in bench.record.calls if c.path == node.meta.get("module")), None)
    made = bench.spot(bench.record.births.get(id(layer))) if layer is not None else None
    for spot in (bench.spot(node), made):
        if spot is None or "softmax" not in spot.called.lower():
            continue
        dim = spot.argument(0 if spot.called[0].isupper() else 1, "dim")
        yield from propose("normalises over the last axis, not over the batch", dim.to("-1") if dim else spot.with_argument("dim=-1"))


@repair(ReduceSamples)
def reduce_samples(bench: Bench, wanted: ReduceSamples) -> Iterator[Proposal]:
    """A log-mean-exp over the axis of the samples."""
    node: fx.Node = wanted.node
    spot = bench.spot(node)
    source = node.all_input_nodes[0]
    if spot is None:
        return
    texts = bench.model.dims(source)
    for part in spot.inside():
        dim = part.argument(1, "dim", "axis")
        if part.called not in ("logsumexp", "mean", "sum", "softmax") or dim is None:
            continue
        for axis in (d for d in range(len(texts)) if "B" not in texts[d]):
            yield from propose(f"reduces over the samples, axis {axis}, not over the batch", dim.to(str(axis)))
