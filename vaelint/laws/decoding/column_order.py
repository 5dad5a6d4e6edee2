"""Law A10, for what is joined: a layer's columns read the same in every one of its calls.

Where a decoder's layer reads a draw beside a condition, its weights learn which columns are which. Intervention: the model's own method
that draws is run, with the step's own conditions. Prediction: no column that reads the draw in training reads a condition there while
another, that reads a condition in training, reads the draw: the two are joined in another order.

Exempt: columns that read a draw in both, or a constant in one; a step that feeds back what it has drawn.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from itertools import islice, permutations
from typing import Any

import torch
from torch import fx

from vaelint.core.finding import Label, Span
from vaelint.experiment.runs import Runner
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.decoding.generation import NAMES, required
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import Record, ancestors, route, shape, span
from vaelint.rule import Found
from vaelint.step.step import Outcome

_ATTEMPTS = 6  # calls of one method, with the step's inputs in its arguments
_METHODS = 3
_SECONDS = 8.0


@dataclass(frozen=True)
class Joined:
    """One call of a layer, what is joined for it, and for each column whether it is drawn ("z"), conditions ("c") or neither ("")."""

    layer: fx.Node
    join: fx.Node
    columns: tuple[str, ...]


@law(
    "columns-keep-their-order",
    "a layer's columns read a draw, or a condition, in generation as in training",
    covered=("VAE222", "VAE325", "VAE432"),
    cost="all",
)
def columns_keep_their_order(bench: Bench) -> Iterator[Broken]:
    """Layers that read a draw joined with a condition."""
    model, flow = bench.model, bench.model.flow
    if model.record.loss is None:
        return

    def kind(n: fx.Node) -> str:
        return "z" if n in flow.noisy else "c" if n in flow.data else ""

    used = flow.ancestors(model.record.loss)
    trained = [t for n in flow.sorted(used) if (t := _joined(n, kind)) is not None and {"z", "c"} <= {*t.columns}]
    if not trained:
        return
    others = [t for n in flow.order if n not in used and (t := _joined(n, kind)) is not None]
    if not (broken := next(_exchanged(trained, others), None)):
        for record in _generated(bench):
            broken = next(_exchanged(trained, [t for n in record.nodes if (t := _joined(n, _kind_of)) is not None]), None)
            if broken:
                break
    if broken:
        yield _broken(*broken)


def _kind_of(node: fx.Node) -> str:
    """The same in a record of generation."""
    behind = ancestors(node) | {node}
    return "z" if any(ops.is_random(n) for n in behind) else "c" if any(n.op == "placeholder" for n in behind) else ""


def _joined(layer: fx.Node, kind: Callable[[fx.Node], str]) -> Joined | None:
    """A layer that reads several values that are joined along the axis that it reads."""
    if ops.op(layer) not in ops.LAYERS or not ops.uses_parameter(layer):
        return None
    join = next((n for n in layer.all_input_nodes if not ops.is_parameter(n)), None)
    if join is None or ops.op(join) not in ops.JOIN or "stack" in ops.op(join) or not shape(join):
        return None
    reads = len(shape(join)) - 1 if ops.op(layer) in ("linear", "addmm") else 1
    columns = tuple(_columns(join, reads, kind))
    return Joined(layer, join, columns) if len(columns) == shape(join)[reads] else None


def _columns(join: fx.Node, reads: int, kind: Callable[[fx.Node], str]) -> Iterator[str]:
    for part in join.all_input_nodes:
        if ops.op(part) in ops.JOIN and len(shape(part)) > reads:
            yield from _columns(part, reads, kind)
        elif len(shape(part)) > reads:
            yield from [kind(part)] * shape(part)[reads]


def _exchanged(trained: list[Joined], others: list[Joined]) -> Iterator[tuple[Joined, Joined]]:
    """Two calls of the same weights whose columns are in another order."""
    for one in trained:
        for other in others:
            pairs = set(zip(one.columns, other.columns, strict=False))
            alike = len(one.columns) == len(other.columns) and _weight(one.layer) == _weight(other.layer)
            if alike and {("z", "c"), ("c", "z")} <= pairs:
                yield one, other


def _weight(layer: fx.Node) -> str | None:
    return next((str(n.target) for n in layer.all_input_nodes if n.op == "get_attr"), None)


def _generated(bench: Bench) -> Iterator[Record]:
    """Runs of the methods that draw, each with arguments from the step's inputs that it takes."""
    kind = type(bench.model.record.model)
    named = [n for n in dir(kind) if NAMES.search(n) and not n.startswith("__") and inspect.isfunction(inspect.getattr_static(kind, n))]
    for name in named[:_METHODS]:
        for given in _arguments(bench, required(getattr(kind, name))):
            record = _run(bench, name, given)
            if record is not None:
                yield record
                break


def _arguments(bench: Bench, wanted: list[inspect.Parameter]) -> Iterator[tuple[str | int, ...]]:
    """What may stand for a method's arguments: inputs of the same name, a number of samples, any other input."""
    names, batch = [s.name for s in bench.seats], bench.model.record.sizes.get("B", 1)
    if all(p.name in names for p in wanted):
        yield tuple(p.name for p in wanted)
    if 1 <= len(wanted) <= 2:
        targets = {r.pair.target for r in bench.model.recons}
        conditions = [s.name for s in bench.seats if s.node not in targets and s.kind in ("label", "data", "mask")]
        yield from islice(permutations([*conditions, batch], len(wanted)), _ATTEMPTS)


def _run(bench: Bench, name: str, given: tuple[str | int, ...]) -> Record | None:
    """One call; None where it takes something else."""
    runner = bench.base.runner

    def step(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> Any:
        return Outcome(getattr(model, name)(*(inputs[a] if isinstance(a, str) else a for a in given)), None)

    try:
        record = Runner(runner.tracer, step, runner.device, runner.sizes, _SECONDS).run()
    except CannotMeasureError:
        return None
    return record if record.failure is None else None


def _broken(one: Joined, other: Joined) -> Broken:
    known = {(place.file, place.line) for place in route(one.join)}
    place: Span | None = next((p for p in route(other.join) if (p.file, p.line) not in known), span(other.join))
    found = Found(
        place,
        label="the draw and its condition are handed over in another order",
        labels=tuple(Label(s, "joined here in training") for s in [span(one.join)] if s is not None and s != place),
        why="the sizes fit, so nothing fails: but the weights that have learned to read the draw read the condition, and what is "
        "generated is made of scrambled inputs",
        help="join them in one place, that training and generation both call",
    )
    swapped = sum({a, b} == {"z", "c"} for a, b in zip(one.columns, other.columns, strict=True))
    text = f"{swapped} of {len(one.columns)} columns read the draw in one of the two and the condition in the other"
    return Broken("generation-differs", found, "each column reads a draw, or a condition, in both", text)
