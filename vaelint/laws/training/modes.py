"""Law B6, for training: an evaluation within training leaves the model as it was.

Observation: the turns of one training loop, told by the modes of the layers that their gradients go through. Where an evaluation lies
between a turn with all layers in training mode and one with all in evaluation mode, the mode was not put back. Layers that are frozen
on purpose are some, and no evaluation comes before.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.core.finding import Label, Span
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record.record import BackwardCall, ModeSet
from vaelint.rule import Found
from vaelint.trace import torch_private

_STATISTICS = (torch_private.BatchNorm, torch.nn.InstanceNorm1d, torch.nn.InstanceNorm2d, torch.nn.InstanceNorm3d)
_DROPOUT = torch_private.Dropout
_PREDICTED, _SEEN = "the layers that are trained are in training mode", "after an evaluation, all are in evaluation mode"


@law(
    "training-stays-in-training", "an evaluation before or between turns of training leaves the model in training mode", covered=("VAE906",)
)
def training_stays_in_training(bench: Bench) -> Iterator[Broken]:
    """Only steps that evaluate before they train, and models with a layer that does something else in evaluation."""
    record = bench.model.record
    if not record.left_training:
        return
    turns: dict[object, list[BackwardCall]] = {}
    for call in record.backwards:
        if call.moved:
            turns.setdefault(call.stack, []).append(call)
    for calls in turns.values():
        for earlier, later in pairwise(calls):
            if (left := _left(bench, earlier, later)) is not None:
                yield _stayed(bench, left, later.span, _told_once(bench, left, earlier, later))
                return
    if (left := _left_in_step(bench)) is not None:
        yield _stayed(bench, left, None, None)


def _left(bench: Bench, earlier: BackwardCall, later: BackwardCall) -> ModeSet | None:
    """What took the model out of training between two turns, where an evaluation did and the later turn is still out of it."""
    record = bench.model.record
    before, after = _layers(bench, earlier.node), _layers(bench, later.node)
    paths = {n.meta["module"] for n in before}
    if not after or not all(n.meta["training"] for n in before) or any(n.meta["training"] for n in after):
        return None
    modules = dict(record.model.named_modules())
    own = [modules[p] for p in paths if p in modules]
    if not any(_differs(m) for m in own):
        return None
    between = record.nodes[earlier.at : later.at]
    if not any(n.meta.get("module") in paths and n.meta.get("training") is False and n not in after for n in between):
        return None
    return next((s for s in reversed(record.left_training) if earlier.at <= s.at <= later.at and any(s.module is m for m in own)), None)


def _left_in_step(bench: Bench) -> ModeSet | None:
    """What takes the model out of training where a step evaluates first: what it then minimises goes through layers in evaluation mode."""
    record = bench.model.record
    trained = _layers(bench, record.loss) if record.loss is not None else set()
    if not trained or any(n.meta["training"] for n in trained):
        return None
    order = bench.model.flow.order
    first = min(order[n] for n in trained)
    for left in reversed([s for s in record.left_training if s.at <= first]):
        inside = {id(m) for m in left.module.modules()}
        paths = {path for path, m in record.model.named_modules() if id(m) in inside}
        evaluated = [n for n in record.nodes[left.at : first] if n.meta.get("module") in paths and n.meta.get("training") is False]
        if evaluated and {n.meta["module"] for n in trained} <= paths and any(_differs(m) for m in left.module.modules()):
            return left
    return None


def _layers(bench: Bench, loss: fx.Node) -> set[fx.Node]:
    """The operations of layers that the gradient of a loss goes through."""
    live = gradients_of(bench.model).reach(loss)
    return {n for n in live if n.op == "call_function" and n.meta.get("module") not in (None, "", "?")}


def _differs(layer: torch.nn.Module) -> bool:
    """Whether a layer does something else in evaluation."""
    if isinstance(layer, _DROPOUT):
        return layer.p > 0
    if isinstance(layer, _STATISTICS):
        return bool(layer.track_running_stats)
    return isinstance(dropout := getattr(layer, "dropout", 0), int | float) and dropout > 0


def _told_once(bench: Bench, left: ModeSet, earlier: BackwardCall, later: BackwardCall) -> Span | None:
    """Where the model was put in training mode for the turns to come, before the loop that evaluates between them.

    None where the evaluation stands in the very loop of the turns: there it is the evaluation that has to put the mode back.
    """
    source = bench.model.source
    around = [source.function(place) for place in later.stack]
    told = [t for t in bench.model.record.told_to_train if t.at <= earlier.at and set(left.module.modules()) <= set(t.module.modules())]
    once = next((t for t in reversed(told) if source.function(t.span) in around), None)
    turns = _loop(bench, later.span)
    return once.span if once is not None and turns not in (None, _loop(bench, once.span), _loop(bench, left.span)) else None


def _loop(bench: Bench, place: Span | None) -> ast.For | ast.While | None:
    """The innermost loop around a place."""
    if place is None:
        return None
    nodes = ast.walk(bench.model.source.function(place) or bench.model.source.file(place.file).tree)
    around = [n for n in nodes if isinstance(n, ast.For | ast.While) and n.lineno <= place.line <= (n.end_lineno or n.lineno)]
    return max(around, key=lambda n: n.lineno, default=None)


def _remembered(bench: Bench, left: ModeSet) -> Span | None:
    """Where the evaluation asks for the mode that it means to put back, when it has changed it already."""
    source, place = bench.model.source, left.span
    function = source.function(place)
    if function is None:
        return None
    asked = [n for n in ast.walk(function) if isinstance(n, ast.Attribute) and n.attr == "training" and isinstance(n.ctx, ast.Load)]
    asked.sort(key=lambda n: (n.lineno, n.col_offset))
    if any((n.lineno, n.col_offset) < (place.line, place.column) for n in asked):
        return None
    return source.file(place.file).place(place.file, asked[0]) if asked else None


def _asked_late(left: ModeSet, later: Span | None, asked: Span) -> Broken:
    labels = [(left.span, "it has left training mode here")]
    labels += [(later, "the next turns train it in evaluation mode")] if later is not None else []
    found = Found(
        asked,
        label="asks for the mode of a model that is in evaluation mode already",
        labels=tuple(Label(place, text) for place, text in labels),
        why="what is put back is evaluation mode: from the first evaluation on the model trains without dropout, and batch normalisation "
        "no longer learns its statistics",
        help="remember the mode first: was_training = model.training, then model.eval()",
    )
    return Broken("trained-in-evaluation", found, _PREDICTED, _SEEN)


def _stayed(bench: Bench, left: ModeSet, later: Span | None, told: Span | None) -> Broken:
    if (asked := _remembered(bench, left)) is not None:
        return _asked_late(left, later, asked)
    labels = [(left.span, "the model leaves training mode here and is not put back")] if told is not None else []
    labels += [(later, "the next turns train it in evaluation mode")] if later is not None else []
    found = Found(
        told or left.span,
        label="said once, before the loop: not again after an evaluation"
        if told is not None
        else "the model leaves training mode here and is not put back",
        labels=tuple(Label(place, text) for place, text in labels),
        why="from the first evaluation on it trains without dropout, and batch normalisation no longer learns its statistics",
        help="call model.train() at the beginning of each epoch, or after the evaluation",
    )
    return Broken("trained-in-evaluation", found, _PREDICTED, _SEEN)
