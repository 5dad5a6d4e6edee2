"""Law A12: every input that the step is given moves the loss.

Intervention: an input gets other values: another sample's, the ends of its range, a mask turned over. Values are compared, not gradients:
lengths, masks and labels have none.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.core.finding import Label, Span
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench, Seat
from vaelint.laws.law import Broken, law
from vaelint.replay.ranges import declared_range
from vaelint.rule import Found
from vaelint.step.step import Step

_SEED = 1
_WORDS = {
    "lengths": "the lengths",
    "mask": "the mask",
    "label": "the label",
    "data": "the data",
    "tokens": "the tokens",
    "other": "the values",
}


@law("inputs-move-the-loss", "each input moves the loss for some sample", covered=("VAE412", "VAE415", "VAE606"))
def inputs_move_the_loss(bench: Bench) -> Iterator[Broken]:
    """A label that nothing reads is left alone, as models of one family share a signature; so is an input that the step does not name."""
    loss = bench.model.record.loss
    if loss is None or not bench.knows(loss):
        return
    flow, unnamed = bench.model.flow, _unnamed(bench)
    for seat in bench.seats:
        read = bool(flow.users.get(seat.node))
        if (flow.descendants(seat.node) | {seat.node}) & set(bench.model.record.reads):
            continue  # it leaves torch, for numpy or plain numbers: what comes back of it does not change here
        if (not read and (seat.kind == "label" or seat.name in unnamed)) or _moves(bench, seat, loss):
            continue
        if read and bench.is_observed and _serves_otherwise(bench, seat):
            continue
        if not read or not _moves(bench.reweighed(_SEED), seat, loss):  # a gate that starts at 0 opens later
            yield _broken(bench, seat, read)
            return


def _unnamed(bench: Bench) -> set[str]:
    """The inputs that the text of the step leaves out, which is said in a note."""
    step = bench.model.step
    return set(step.unread([seat.name for seat in bench.seats])) if isinstance(step, Step) and step.has_loss else set()


def _moves(bench: Bench, seat: Seat, loss: fx.Node) -> bool:
    """Whether some other value gives another loss; what another backward pass of the step is made of serves another network."""
    if any(b.node is not loss and seat.node in bench.model.flow.ancestors(b.node) for b in bench.model.record.backwards):
        return True
    was = bench.value(loss)
    if not bool(was.isfinite().all()):
        raise CannotMeasureError("the loss is not finite")
    if not bool(was.any()):
        raise CannotMeasureError("the loss is exactly 0: a threshold keeps it there")
    for other in _others(bench, seat):
        after = bench.after_inputs({seat.node: other}, [loss]).get(loss)
        if after is None or not torch.equal(after, was):
            return True
    return bool(bench.model.flow.users.get(seat.node)) and _moves_unseen(bench, seat, loss)


def _moves_unseen(bench: Bench, seat: Seat, loss: fx.Node) -> bool:
    """Whether the loss moves with the input on a way that the record does not have: gradients of single samples are taken within a map."""
    if loss in bench.model.flow.descendants(seat.node):
        return False
    own, other = ({seat.node: v} for v in (bench.value(seat.node), next(_others(bench, seat))))
    before, after = (bench.whole(changes, [loss]).get(loss) for changes in (own, other))
    return before is None or after is None or not torch.equal(before, after)


def _others(bench: Bench, seat: Seat) -> Iterator[torch.Tensor]:
    """Other values that the input may have."""
    val = bench.value(seat.node)
    if seat.kind == "mask":
        yield ~val if val.dtype is torch.bool else 1 - val
        return
    declared = declared_range(bench.model, seat.node)
    if not val.is_floating_point() and declared is not None:
        low, high = int(declared[0]), int(declared[1])
        top = high if seat.kind == "lengths" else high - 1
        made = [torch.full_like(val, low), torch.full_like(val, max(low, top))]
    else:
        made = [val.flip(seat.axis), 2 * val + 1 if val.is_floating_point() else val.roll(1, seat.axis)]
        made += _beyond_thresholds(val, declared) if val.is_floating_point() else []
    different = [m for m in made if not torch.equal(m, val)]
    if not different:
        raise CannotMeasureError(f"{seat.name} has one value only")
    yield from different


def _beyond_thresholds(val: torch.Tensor, declared: tuple[float, float] | None) -> list[torch.Tensor]:
    """Values on the other side of a threshold, as far as the declared range has them: what is read as `x > 0` moves with no others."""
    low, high = declared or (-math.inf, math.inf)
    ends = [end for end in (low, high) if math.isfinite(end)]
    return [torch.full_like(val, v) for v in (0.0, *ends) if low <= v <= high] + ([-val] if low < 0 else [])


def _broken(bench: Bench, seat: Seat, read: bool) -> Broken:
    model = bench.model
    users = model.flow.users.get(seat.node, [])
    declared = _parameter(bench, seat)
    last = max(users, key=lambda n: model.flow.order[n]) if users else None
    lost, label = _lost(bench, seat)
    dropped = model.where(lost) if lost is not None else None
    place = dropped or declared or (model.where(last) if last is not None else None) or model.where(model.record.loss)
    kind = _WORDS[seat.kind]
    entry = f"{seat.name}: {model.shape_text(seat.node)} enters here"
    found = Found(
        place,
        label=label if dropped else f"{entry} and changes nothing",
        labels=(Label(declared, entry),) if dropped and declared else model.labels((last, "read here last")) if declared else (),
        shapes=(model.row(seat.node),),
        why={
            "lengths": "padding is encoded, decoded and compared as if it were data",
            "mask": "masked elements count like all others",
            "label": "the model is the same for every label, so it cannot be asked for one",
        }.get(seat.kind, "the model is trained as if this input did not exist"),
        help={
            "lengths": "ignore the padding: pack the sequence, or read the state at its end, and mask the loss",
            "mask": "multiply the error by the mask, and hide masked elements from the encoder",
        }.get(seat.kind, f"give {seat.name} to the encoder or the decoder, or take it out of the signature"),
    )
    text = f"with other values of {kind} the loss is the same to the last bit" + ("" if read else "; nothing reads them")
    return Broken("input-without-effect", found, "each input moves the loss", text)


def _serves_otherwise(bench: Bench, seat: Seat) -> bool:
    """Whether a training makes of an input what it reads later, such as a metric, or nothing with a gradient, such as a picture."""
    moved = _moved(bench, seat)
    return bool(moved & set(bench.model.record.read_later)) or not any(n.meta.get("grad") for n in moved)


def _moved(bench: Bench, seat: Seat) -> set[fx.Node]:
    """What is another value with other values of an input."""
    flow = bench.model.flow
    below = [n for n in flow.sorted(flow.descendants(seat.node)) if bench.knows(n)]
    after = bench.after_inputs({seat.node: next(_others(bench, seat))}, below)
    return {n for n in below if n in after and after[n].shape == bench.value(n).shape and not torch.equal(after[n], bench.value(n))}


def _lost(bench: Bench, seat: Seat) -> tuple[fx.Node | None, str]:
    """The operation at which other values of an input stop to matter, and what becomes of them there; None where it cannot be told."""
    flow, moved = bench.model.flow, _moved(bench, seat)
    ends = [n for n in flow.sorted(moved) if not moved & set(flow.users.get(n, ()))]
    if not ends:
        return None, ""
    reader = next((u for u in flow.users.get(ends[-1], ()) if bench.knows(u)), None)
    what = f"of {seat.name} is made here"
    return (ends[-1], f"what {what} is read by nothing") if reader is None else (reader, f"what was made of {seat.name} is left out here")


def _parameter(bench: Bench, seat: Seat) -> Span | None:
    """Where the innermost function that is given the input as it is declares it."""
    calls = bench.model.with_calls
    node = calls.inputs.get(seat.name)
    if node is None:
        return None
    for call in reversed(calls.functions):
        for name, value in call.arguments.items():
            if value is not node:
                continue
            for function in bench.model.source.file(call.file).functions():
                arguments = function.args
                first = min([function.lineno, *(d.lineno for d in function.decorator_list)])
                for arg in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs] if first == call.line else ():
                    if arg.arg == name:
                        return _span(call.file, arg)
    return None


def _span(file: str, arg: ast.arg) -> Span:
    return Span(file, arg.lineno, arg.col_offset + 1, arg.end_lineno, (arg.end_col_offset or 0) + 1)
