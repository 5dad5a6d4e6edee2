"""Law A1, for what belongs together: rows of two inputs that were one sample when they were handed over are one sample where they meet.

Intervention: one sample of one input takes the values of another, then the same sample of another input. Prediction: where the two inputs
meet, both move the same row. Where the rows of one were picked in another order on the way and those of the other were not, each
sample gets another one's label, condition, mask or length.

Where a batch goes in parts, as halves, each part is asked: what a sample moves in it, a row or none, both inputs move.

Exempt is what has a purpose: an input that also comes in its own order (mixup, contrastive negatives, the permuted draws of a critic), rows
that are put back later on, and batches that are a graph.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.experiment.verdict import CannotMeasureError
from vaelint.faults.batch.linked import rows_are_linked
from vaelint.faults.batch.mixing import batch_of
from vaelint.laws.bench import Bench, Seat
from vaelint.laws.law import Broken, law
from vaelint.laws.samples.moved_rows import exchanged, moved_rows
from vaelint.record import ops
from vaelint.rule import Found

_PICKS = frozenset({"getitem", "index", "index_select", "gather", "take_along_dim"})

Order = tuple[int, ...]
"""For some samples, the row that each moves."""


@law(
    "rows-keep-their-partners",
    "rows of two inputs that were one sample are one sample where they meet",
    covered=("VAE103", "VAE104", "VAE107", "VAE306"),
    cost="all",
)
def rows_keep_their_partners(bench: Bench) -> Iterator[Broken]:
    """Inputs whose rows are picked in another order, and inputs that meet them and whose rows are not."""
    model, flow = bench.model, bench.model.flow
    loss = model.record.loss
    candidates = [n for n in model.record.nodes if _is_a_pick(bench, n)]
    if len(bench.seats) < 2 or loss is None or not candidates or rows_are_linked(model) or batch_of(model).runs_over_time:
        return
    own = tuple(exchanged(bench))
    orders = {n: order for n in candidates if (order := _order(bench, n)) is not None and order != own and order != _order(bench, n, 0)}
    for pick in flow.sorted(set(orders)):
        same = {n for n in orders if orders[n] == orders[pick]}
        if _is_put_back(bench, pick, same) or _comes_in_its_own_order(bench, pick, same):
            continue
        for seat in bench.seats:
            if any(seat.node in flow.ancestors(*p.all_input_nodes[:1]) for p in same):
                continue
            meet = _meet(bench, pick, seat, same)
            apart = (other := _rows(bench, seat, meet[1])) is not None and other != orders[pick] if meet is not None else None
            node = meet[0] if meet is not None and apart else _meet_in_parts(bench, pick, seat) if meet is None else None
            if node is not None:
                yield _broken(bench, pick, seat, node)
                return


def _is_a_pick(bench: Bench, node: fx.Node) -> bool:
    """Whether rows of something that the data are made of are taken by numbers, as many as there are samples."""
    flow = bench.model.flow
    source = node.args[0] if node.args else None
    if ops.op(node) not in _PICKS or not isinstance(source, fx.Node) or source not in flow.data or not _has_rows(bench, node):
        return False
    by = [n for n in node.all_input_nodes if n is not source]
    return _has_rows(bench, source) and not any(_is_switch(n) for n in by) and (bool(by) or _is_list(node.args[1:]))


def _has_rows(bench: Bench, node: fx.Node) -> bool:
    """Whether a value of this run has as many rows as there are samples, and they are the batch."""
    axis = bench.batch_axis(node)
    return axis is not None and bench.knows(node) and bench.value(node).shape[axis] == bench.base.batch


def _is_switch(node: fx.Node) -> bool:
    val = node.meta.get("val")
    return isinstance(val, torch.Tensor) and (val.dtype is torch.bool or val.is_floating_point())


def _is_list(given: object) -> bool:
    """Whether numbers that are no tensor of the record pick the rows: a list, an array of numpy."""
    if isinstance(given, tuple):
        return any(_is_list(g) for g in given)
    return not isinstance(given, fx.Node | slice | int | str | None) and hasattr(given, "__len__") and len(given) > 2


def _order(bench: Bench, pick: fx.Node, of: int | None = None) -> Order | None:
    """The rows that samples move in what was picked, or in what it was picked from; None where one moves none, or more than one."""
    source = pick.args[0]
    assert isinstance(source, fx.Node)
    seats = [s for s in bench.seats if s.node in bench.model.flow.ancestors(source)]
    return _rows(bench, seats[0], pick if of is None else source) if len(seats) == 1 else None


def _rows(bench: Bench, seat: Seat, node: fx.Node, *, of_a_part: bool = False) -> Order | None:
    """The row that each exchanged sample of an input moves; of a part of the batch, -1 for samples that are in another part."""
    axis = bench.batch_axis(node) or 0
    found = []
    try:
        before = bench.after(bench.same([seat.node]), [node])[node]
        for sample in exchanged(bench):
            after = bench.after(bench.exchanged([seat], sample), [node]).get(node)
            moved = moved_rows(before, after, axis)
            if moved is None or len(moved) > 1:
                return None
            found.append(next(iter(moved), -1))
    except (CannotMeasureError, KeyError):
        return None
    known = [row for row in found if row >= 0]
    return tuple(found) if (of_a_part or len(known) == len(found)) and len(set(known)) == len(known) else None


def _is_put_back(bench: Bench, pick: fx.Node, same: set[fx.Node]) -> bool:
    """Whether rows are picked or written once more by what the order is made of, later on."""
    flow = bench.model.flow
    orders = {n for p in same for n in p.all_input_nodes if n is not p.args[0]}
    made = flow.descendants(*orders) | orders
    later = flow.descendants(pick) - same
    return any(
        any(i in made and i not in later | same for i in n.all_input_nodes)
        and (ops.op(n) in _PICKS or "index" in ops.op(n) or "scatter" in ops.op(n))
        for n in later
    )


def _comes_in_its_own_order(bench: Bench, pick: fx.Node, same: set[fx.Node]) -> bool:
    """Whether what was picked moves the loss in its own order as well."""
    flow, loss = bench.model.flow, bench.model.record.loss
    assert loss is not None
    source = [s.node for s in bench.seats if s.node in flow.ancestors(pick)]
    return bool({*source} & (flow.ancestors(loss, stop=same) | {loss}))


def _meet(bench: Bench, pick: fx.Node, seat: Seat, same: set[fx.Node]) -> tuple[fx.Node, fx.Node] | None:
    """Where what was picked meets another input for the first time, and that input's side."""
    flow = bench.model.flow
    mine, theirs = flow.descendants(pick) | {pick}, flow.descendants(seat.node) | {seat.node}
    for node in flow.sorted(mine & theirs & bench.model.reaching_loss):
        sides = [n for n in node.all_input_nodes if n in theirs and n not in mine and _has_rows(bench, n)]
        if sides and any(n in mine and n not in theirs for n in node.all_input_nodes):
            return node, sides[0]
        if any(n in mine and n in theirs for n in node.all_input_nodes):
            return None
    return None


def _meet_in_parts(bench: Bench, pick: fx.Node, seat: Seat) -> fx.Node | None:
    """Where a part of what was picked meets a part of another input, and a sample of one is not in the row of the same sample."""
    flow = bench.model.flow
    mine, theirs = flow.descendants(pick), flow.descendants(seat.node)
    own = next(s for s in bench.seats if s.node in flow.ancestors(pick))
    for node in flow.sorted(mine & theirs & bench.model.reaching_loss):
        sides = [n for n in node.all_input_nodes if n in mine | theirs and not (n in mine and n in theirs) and _is_a_part(bench, n)]
        picked, other = (next((n for n in sides if n in side), None) for side in (mine, theirs))
        if picked is None or other is None or bench.value(picked).shape[0] != bench.value(other).shape[0]:
            continue
        both = (_rows(bench, own, picked, of_a_part=True), _rows(bench, seat, other, of_a_part=True))
        if all(rows is not None and max(rows) >= 0 for rows in both):
            return node if both[0] != both[1] else None
    return None


def _is_a_part(bench: Bench, node: fx.Node) -> bool:
    """Whether a value has fewer rows than there are samples, along its first axis."""
    if not bench.knows(node) or bench.batch_axis(node) or not bench.value(node).dim():
        return False
    return 1 < bench.value(node).shape[0] < (bench.base.batch or 0)


def _broken(bench: Bench, pick: fx.Node, seat: Seat, meet: fx.Node) -> Broken:
    model = bench.model
    name = next(s.name for s in bench.seats if s.node in model.flow.ancestors(pick))
    found = Found(
        model.where(pick),
        label=f"puts the rows of {name} into another order, and leaves {seat.name} in theirs",
        labels=model.labels((meet, f"each row of {name} meets another sample's {seat.name} here")),
        shapes=(model.row(pick),),
        when="B > 1",
        why=f"what belongs to one sample is read with the {seat.name} of another: the model learns that the two have nothing to do with "
        "each other",
        help=f"pick the rows of both in one order: {name}[order] and {seat.name}[order]",
    )
    text = f"sample i of {name} moves another row of {model.written(meet)} than sample i of {seat.name}"
    return Broken("batch-mixed", found, "both inputs of one sample move one row where they meet", text)
