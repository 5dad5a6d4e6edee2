"""Law A12, for later batches: what moves the loss at the first step moves it at the next.

Intervention: where a model keeps a value that a step has made of an input, the same model takes the step again, once with the same
batch and once with that input exchanged between the samples; and a model that has seen nothing takes the exchanged one. Prediction:
where the loss moves there, it moves here too. What is kept under the shape of a batch alone is that of the first batch for ever.

Exempt are inputs without a batch axis, graphs whose samples are their nodes (there is but one), and inputs that anything else reads.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.core.finding import Span
from vaelint.experiment.runs import calm
from vaelint.experiment.trial import differ
from vaelint.faults.batch.linked import rows_are_linked
from vaelint.faults.schedule.reset_counters import user_objects
from vaelint.laws.bench import Bench, Seat
from vaelint.laws.law import Broken, law
from vaelint.record.record import ancestors, span
from vaelint.rule import Found

_DEPTH = 3  # of collections in collections
_ROUNDING = 1e-5  # of the loss


@law("later-batches-count", "an input that moves the loss at the first step moves it at the next", covered=("VAE324",), cost="all")
def later_batches_count(bench: Bench) -> Iterator[Broken]:
    """Inputs of which something is kept in an attribute, or in a collection, that is no parameter and no buffer."""
    loss, made = bench.model.record.loss, bench.base.record
    kept = [n for n in made.nodes if n.op == "call_function" and id(n.meta.get("val")) in _kept(made.model)]
    if loss is None or not kept or not bench.knows(loss) or rows_are_linked(bench.model):
        return
    for seat in bench.seats:
        own = [n for n in kept if bench.base.pairs[seat.node] in ancestors(n)]
        if not own or any(bench.is_of_pairs(n) for n in bench.model.record.inputs.values()):
            continue
        changes = {seat.node: bench.value(seat.node).roll(1, seat.axis)}
        if torch.equal(changes[seat.node], bench.value(seat.node)):
            continue
        after = bench.after_inputs(changes, [loss]).get(loss)
        if after is None or not differ(after, bench.value(loss)) > _ROUNDING:  # an average over samples in another order is the same
            continue
        if _stays(bench, seat, loss):
            yield _broken(bench, seat, own[-1])
            return


def _kept(model: torch.nn.Module) -> set[int]:
    """The tensors that the model's objects, and the modules they are written in, keep without having registered them."""
    found: set[int] = set()
    for owner in user_objects(model):
        for name, value in vars(owner).items():
            if name not in ("_parameters", "_buffers", "_modules"):
                found |= _tensors(value, _DEPTH)
        for cls in type(owner).__mro__:
            if cls.__module__.partition(".")[0] not in ("torch", "builtins"):
                found |= {i for v in vars(cls).values() for i in _tensors(v, _DEPTH)}
    return found


def _tensors(value: object, depth: int) -> set[int]:
    if isinstance(value, torch.Tensor):
        return {id(value)}
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return {i for part in parts for i in _tensors(part, depth - 1)} if depth else set()


def _stays(bench: Bench, seat: Seat, loss: fx.Node) -> bool:
    """Whether a model that has taken the step treats the exchanged input as the first one."""

    def exchange(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> None:
        calm(model)
        inputs[seat.name] = inputs[seat.name].roll(1, seat.axis)

    values = []
    for prepare in (calm, exchange):  # a model each: the step may train it
        built = bench.base.runner.build()
        runs = [bench.base.again(prepare=p, built=built).record for p in (calm, prepare)]
        if any(r.failure is not None or r.loss is None for r in runs):
            return False
        values.append(runs[1].loss.meta["val"].detach() if runs[1].loss is not None else torch.tensor(float("nan")))
    return bool(values[0].isfinite().all()) and torch.equal(*values)


def _asked(bench: Bench, place: Span) -> Span | None:
    """The condition under which a value is made again: what it is kept under, where that has a name, else the condition."""
    function, file = bench.model.source.function(place), bench.model.source.file(place.file)
    around = [n for n in ast.walk(function or ast.Pass()) if isinstance(n, ast.If) and n.lineno <= place.line <= (n.end_lineno or n.lineno)]
    if function is None or not around:
        return None
    test = max(around, key=lambda n: n.lineno).test
    named = {n.id for n in ast.walk(test) if isinstance(n, ast.Name)}
    for made in ast.walk(function):
        if isinstance(made, ast.Assign) and made.lineno < test.lineno and named & {ast.unparse(t) for t in made.targets}:
            return file.place(place.file, made)
    return file.place(place.file, test)


def _broken(bench: Bench, seat: Seat, node: fx.Node) -> Broken:
    model, place = bench.model, span(node)
    found = Found(
        (_asked(bench, place) if place is not None else None) or place or model.where(seat.node),
        label=f"what is made of {seat.name} is kept, and used for all later batches",
        labels=model.labels((next((s for s, n in bench.base.pairs.items() if n is node), None), f"made of {seat.name} here, once")),
        why="from the second step on the model goes by the first batch: its data are right, and this input is another batch's",
        help=f"make it again at each step, or keep it under all that it is made of, the values of {seat.name} among them",
    )
    text = f"on a model that has taken one step, other values of {seat.name} give the same loss to the last bit; on a new one they do not"
    return Broken("input-without-effect", found, "each input moves the loss, at later steps too", text)
