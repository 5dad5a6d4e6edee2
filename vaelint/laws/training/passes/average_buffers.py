"""Law B5, for averages of weights: what is run with averaged parameters has the statistics that belong to them.

Observed on the step as it runs: an operation reads averaged parameters, and beside them a buffer that still holds what the model's own
had before the step, while the model's has moved: running means of a batch normalisation, which a loop over parameters does not meet.
Exempt is code that handles buffers anywhere in its file, and an average that nothing runs.

Source: Izmailov et al. 2018, Averaging Weights Leads to Wider Optima and Better Generalization, section 3.2.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

from vaelint.core.finding import Label, Span
from vaelint.experiment.recompute import in_place
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.training.kept.averages import Update, shares_of, updates_of
from vaelint.record.record import Record, span
from vaelint.rule import Found

_HANDLE = frozenset({"buffers", "named_buffers", "update_bn", "load_state_dict", "running_mean", "running_var"})


@law("averages-have-their-statistics", "averaged parameters run with statistics that follow too", covered=("VAE902", "VAE916"), cost="all")
def averages_have_their_statistics(bench: Bench) -> Iterator[Broken]:
    """Averages that the step writes by hand, and runs."""
    record = bench.model.record
    if not record.objectives or not any(in_place(n) and not n.meta.get("grad") for n in record.nodes):
        return
    built = bench.base.runner.build()
    held = [(b, b.detach().clone()) for b in built.model.buffers() if b.is_floating_point()]
    if not held:
        return
    run = bench.base.again(built=built, as_is=True).record
    if run.failure is not None:
        raise CannotMeasureError("the step does not run with its optimizers")
    moved = {id(b): (b, before) for b, before in held if not torch.equal(b, before)}
    for update in updates_of(run) if moved else ():
        found = _left_behind(run, update, moved)
        if found is None or (shares := shares_of(update)) is None or abs(sum(shares) - 1) > 1e-3:
            continue
        if (place := span(update.last)) is not None and not _handles_buffers(bench, place):
            yield _stale(bench, place, *found)
        return


def _left_behind(
    record: Record, update: Update, moved: dict[int, tuple[torch.Tensor, torch.Tensor]]
) -> tuple[fx.Node, torch.Tensor, torch.Tensor] | None:
    """An operation that reads an average, and the model's buffer, before and after, whose counterpart it has as it was before."""
    for mine in (n for n in record.nodes if _seat(n, update.old) is not None):
        seat = _seat(mine, update.old)
        for theirs in (n for n in record.nodes if n.target is mine.target and _seat(n, update.live) == seat):
            for at, other in _read(theirs).items():
                buffer = _read(mine).get(at)
                if id(other) not in moved or not isinstance(buffer, torch.Tensor) or buffer is other:
                    continue
                after, before = moved[id(other)]
                if buffer.shape == before.shape and torch.equal(buffer.detach().cpu(), before.cpu()):
                    return mine, before, after
    return None


def _read(node: fx.Node) -> dict[Any, Any]:
    given: dict[Any, Any] = dict(enumerate(node.args))
    given.update(node.kwargs)
    return {at: value.meta.get("val") for at, value in given.items() if isinstance(value, fx.Node)}


def _seat(node: fx.Node, tensor: torch.Tensor) -> Any:
    """Which argument of an operation, that changes nothing in place, a tensor is."""
    if node.op != "call_function" or in_place(node):
        return None
    own = _read(node).items()
    return next(
        (at for at, v in own if isinstance(v, torch.Tensor) and v.shape == tensor.shape and v.data_ptr() == tensor.data_ptr()), None
    )


def _handles_buffers(bench: Bench, place: Span) -> bool:
    words = {n.attr if isinstance(n, ast.Attribute) else n.id for n in _tree(bench, place) if isinstance(n, ast.Attribute | ast.Name)}
    return bool(words & _HANDLE)


def _tree(bench: Bench, place: Span) -> list[ast.AST]:
    return list(ast.walk(bench.model.source.file(place.file).tree))


def _loop(bench: Bench, place: Span) -> Span:
    """What the loop goes through in which the average is written; the place itself where there is no loop."""
    loops = [n for n in _tree(bench, place) if isinstance(n, ast.For) and n.lineno <= place.line <= (n.end_lineno or 0)]
    if not loops:
        return place
    through = max(loops, key=lambda n: n.lineno).iter
    return Span(place.file, through.lineno, through.col_offset + 1, through.end_lineno, (through.end_col_offset or 0) + 1)


def _stale(bench: Bench, place: Span, node: fx.Node, before: torch.Tensor, after: torch.Tensor) -> Broken:
    where = span(node)
    found = Found(
        _loop(bench, place),
        label="the average follows parameters, and no buffers",
        labels=(Label(where, "runs with averaged weights, and statistics as they were"),) if where is not None else (),
        why="the averaged model normalises with the statistics that it was made with, which do not belong to its weights: what it puts "
        "out, and all that is measured on it, is wrong",
        help="take the buffers over too: for own, live in zip(average.buffers(), model.buffers()): own.copy_(live)",
    )
    far = float((after - before).detach().abs().max())
    text = f"in one step the model's statistics move by up to {far:.3g}, those beside the averaged parameters by 0"
    return Broken("average-without-buffers", found, "averaged parameters run with statistics that follow too", text)
