"""Law A1: sample i moves row i of the posterior, the reconstruction and the terms of the loss, and no other.

Intervention: one sample takes the values of another. Every value on the way that keeps a batch axis is looked at; of an axis that
holds several rows a sample (`4*B`) the rows of two samples must be disjoint.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Leaf
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.faults.batch.linked import rows_are_linked
from vaelint.faults.batch.mixing import batch_of
from vaelint.laws.bench import Bench, Seat
from vaelint.laws.law import Broken, law
from vaelint.laws.samples.moved_rows import MOST_SAMPLES, Rows, are_side_by_side, exchanged, meet, misplaced, moved_rows, rows_moved
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.ranges import declared_range
from vaelint.rule import Found

_WHOLE = 1e-3

_REDRAWN = frozenset({"standard_gamma", "sample_dirichlet", "poisson", "binomial", "multinomial"})
"""How many random numbers they take hangs on the values: another sample changes the noise of those that follow."""

_ON_PURPOSE = frozenset({"roll", "flip", "flipud", "index_select"})

_SORTS = frozenset({"sort", "argsort", "topk"})


@law("samples-are-independent", "sample i moves row i and no other", covered=("VAE104", "VAE106", "VAE107", "VAE111"))
def samples_are_independent(bench: Bench) -> Iterator[Broken]:
    """Finds the first value in which two samples meet, and points at the operation that put rows in another order."""
    model = bench.model
    if any(bench.is_of_pairs(n) for n in model.record.inputs.values()) or rows_are_linked(model):
        return  # a graph whose nodes are the batch: they are meant to meet
    if batch_of(model).runs_over_time:
        raise CannotMeasureError("the step goes along the first axis as one does along time")
    wanted = [n for n in _on_the_way(bench) if bench.batch_axis(n) is not None]
    rows = rows_moved(bench, wanted)
    if strays := _strays(bench, rows):
        also = rows_moved(bench, wanted, samples=strays)
        rows = {n: moved + also[n] for n, moved in rows.items() if n in also}
    yield from (
        _labelled(bench, wanted) or _mixed(bench, rows) or _compared(bench, rows) or _sorted(bench, wanted) or _counted(bench, wanted)
    )


def _strays(bench: Bench, rows: Rows) -> list[int]:
    """Samples whose rows another sample moves, of values with one row a sample: they are exchanged too.

    Only of values before samples meet for certain: what lies behind is known by then.
    """
    asked, flow = exchanged(bench), bench.model.flow
    meets = next(
        (n for n in flow.sorted(set(rows)) if meet(rows[n]) and n not in _excused(bench) and bench.model.op(n) != "batch_norm"), None
    )
    before = set(rows) if meets is None else set(rows) & flow.ancestors(meets) - {meets}
    moved = (zip(asked, rows[n], strict=True) for n in before if bench.model.dims(n)[bench.batch_axis(n) or 0] == "B")
    return sorted({other for each in moved for sample, own in each for other in own if other != sample} - set(asked))[:MOST_SAMPLES]


def _mixed(bench: Bench, rows: Rows) -> list[Broken]:
    """What is broken with the samples as they come."""
    model, flow = bench.model, bench.model.flow
    excused = _excused(bench)
    for node in flow.sorted(set(rows)):
        if node in excused or not meet(rows[node]):
            continue
        if model.op(node) == "batch_norm":
            excused |= {node} | flow.descendants(node)  # called in training by its name: no layer that a calm run could turn off
            continue
        if bench.draws_order(node) or _is_in_order_of_labels(bench, node):
            return []  # shuffled or sorted on purpose
        if _reads_statistic(bench, node):  # scaled by a statistic of the batch, of which VAE103 speaks
            return [_broken(bench, n, n, rows) for n in _weights(bench) if node in (n, *flow.ancestors(n)) and _is_a_share(bench, n)][:1]
        culprit = _reordered(node, rows, bench) or node
        if any(_is_on_purpose(bench, n, rows) for n in (culprit, *culprit.all_input_nodes)):
            return []  # another sample is the partner by the code's own word; whether it may be the target, VAE306 says
        return [_broken(bench, culprit if culprit is not node else _turned(node, rows, bench) or node, node, rows)]
    return []


def _turned(node: fx.Node, rows: Rows, bench: Bench) -> fx.Node | None:
    """Where the one operand that meets the data got the rows of other samples, each from one."""
    mine = [n for n in node.all_input_nodes if n in rows and any(rows[n])]
    data = [n for n in node.all_input_nodes if n.op == "placeholder" and bench.batch_axis(n) is not None]
    if len(mine) != 1 or not data or meet(rows[mine[0]]):
        return None
    own = any(sample in moved for sample, moved in zip(exchanged(bench), rows[mine[0]], strict=False))  # strays come behind
    return None if own else _left_at(mine[0], rows, bench)


def _is_on_purpose(bench: Bench, node: fx.Node, rows: Rows) -> bool:
    """Whether samples change places here: not where those that packing has sorted come back to theirs."""
    back = [frozenset({sample}) for sample in exchanged(bench)]
    return bench.model.op(node) in _ON_PURPOSE and bench.batch_axis(node) is not None and rows.get(node) != back


def _excused(bench: Bench) -> set[fx.Node]:
    """What comes of pairs of samples, and of noise that is another for another sample."""
    model, flow = bench.model, bench.model.flow
    paired = {n for n in model.record.nodes if bench.is_of_pairs(n) or model.op(n) in _REDRAWN}
    return flow.descendants(*paired) if paired else set()


def _compared(bench: Bench, rows: Rows) -> list[Broken]:
    """Where an operation of torch compares and sums up at once, the samples meet within it, if its operands hold them in two orders."""
    model, flow = bench.model, bench.model.flow
    leaves = [leaf.node for term in model.terms_of("reconstruction") for leaf in term.leaves]
    pairs = {n: ops.value_inputs(n) for n in leaves if model.op(n) in ops.LOSSES and n not in rows and len(ops.value_inputs(n)) == 2}
    classes = [n for both in pairs.values() for n in both if n not in rows and bench.knows(n) and bench.batch_axis(n) is not None]
    known = rows | (rows_moved(bench, classes) if classes else {})
    for leaf, operands in pairs.items():
        if any(not known.get(n) or meet(known[n]) for n in operands) or len({len(known[n]) for n in operands}) > 1:
            continue  # of other rows than samples, as packed steps are
        sizes = {bench.value(n).shape[bench.batch_axis(n) or 0] for n in operands}
        on_purpose = any(model.op(n) in _ON_PURPOSE or bench.draws_order(n) for n in (*operands, *flow.ancestors(*operands)))
        both = [a | b for a, b in zip(*(known[n] for n in operands), strict=True)]
        if len(sizes) == 1 and not on_purpose and meet(both):
            here = known | {leaf: both}
            return [_broken(bench, _reordered(leaf, here, bench) or leaf, leaf, here)]
    return []


def _sorted(bench: Bench, wanted: list[fx.Node]) -> list[Broken]:
    """The same where the lengths of the samples, which come sorted as packing wants them, come in another order, and the model sorts.

    The other order is no exchange of pairs: rows that are sorted a second time would be back in their places.
    """
    flow = bench.model.flow
    lengths = [s for s in bench.of_kind("lengths") if any(bench.model.op(n) in _SORTS for n in flow.descendants(s.node))]
    if not lengths:
        return []
    rows = rows_moved(bench, wanted, {s.node: bench.value(s.node).roll(1, 0) for s in lengths})
    meets = next((n for n in flow.sorted(set(rows)) if meet(rows[n]) or _in_two_orders(rows[n], exchanged(bench))), None)
    heads = [h for s in bench.model.sites for h in s.heads if all(rows.get(h, ())) and meets is not None and h in flow.ancestors(meets)]
    kept = [[frozenset({sample}) for sample in exchanged(bench)]]
    odd = next((h for h in heads if not meet(rows[h]) and rows[h] not in kept), None)
    if meets is None or odd is None:
        return []
    first = next(n for n in flow.sorted(set(rows)) if rows[n] == rows[odd])
    shared = [n for n in flow.sorted(set.intersection(*(set(flow.ancestors(h)) for h in heads))) if rows.get(n) == rows[odd]]
    sorted_here = next((n for n in flow.sorted(flow.ancestors(first) & set(rows)) if _is_another_order(rows[n], rows[odd], kept)), None)
    if sorted_here is not None:  # they were put somewhere, and not back
        return [_unrestored(bench, sorted_here, first, meets, "its rows are put into an order that is not the data's")]
    return [_unrestored(bench, first, shared[-1] if shared[1:] else odd, meets)]


def _labelled(bench: Bench, wanted: list[fx.Node]) -> list[Broken]:
    """Where one sample alone has a label, that label moves the row of that sample: labels that many samples share hide each other."""
    model, flow = bench.model, bench.model.flow
    for seat in bench.of_kind("label"):
        low, high = declared_range(model, seat.node) or (0.0, 0.0)
        if high - low < 1 or bench.draws_order(seat.node):
            continue
        equal = torch.full_like(bench.value(seat.node), int(low))
        below = [n for n in wanted if n in flow.descendants(seat.node)]
        before = bench.after_inputs({seat.node: equal}, below)
        moved: Rows = {n: [] for n in before}
        for sample in exchanged(bench):
            other = equal.clone()
            other[sample] = int(low) + 1
            after = bench.after_inputs({seat.node: other}, below)
            moved = {
                n: [*m, r] for n, m in moved.items() if (r := moved_rows(before[n], after.get(n), bench.batch_axis(n) or 0)) is not None
            }
        for node in flow.sorted(set(moved)):
            if any(rows - {sample} for sample, rows in zip(exchanged(bench), moved[node], strict=True)):
                same = bench.value(node).shape[bench.batch_axis(node) or 0] == bench.base.batch
                return [_of_another_row(bench, seat, node)] if same and not _are_grouped(bench, seat, node) else []
    return []


def _counted(bench: Bench, wanted: list[fx.Node]) -> list[Broken]:
    """Where all lengths but the last are full, the last one moves the row of its sample: what is made of lengths alone, such as a mask.

    Exempt is what is sorted or packed by them, and what reads a statistic of them all, such as their sum.
    """
    flow, last = bench.model.flow, (bench.base.batch or 0) - 1
    for seat in (s for s in bench.of_kind("lengths") if s.along and s.along > 1 and last > 0):
        full = torch.full_like(bench.value(seat.node), int(seat.along or 0))
        below = flow.descendants(seat.node) - flow.descendants(*(s.node for s in bench.seats if s is not seat))
        ours = [n for n in flow.sorted(below & flow.ancestors(*wanted)) if bench.knows(n) and bench.batch_axis(n) is not None]
        excused = [n for n in below if bench.model.op(n) in _SORTS or "pack" in bench.model.op(n) or _reads_statistic(bench, n)]
        ours = [n for n in ours if (bench.is_real(n) or bench.value(n).dtype is torch.bool) and n not in flow.descendants(*excused)]
        short = full.clone()
        short[last] = 1
        before, after = (bench.after({seat.node: lengths}, ours) for lengths in (full, short))
        for node in (n for n in ours if bench.value(n).shape[bench.batch_axis(n) or 0] == last + 1):
            if (moved_rows(before[node], after.get(node), bench.batch_axis(node) or 0) or set()) - {last}:
                return [_of_another_row(bench, seat, node)] if not bench.draws_order(node) else []
    return []


def _are_grouped(bench: Bench, seat: Seat, node: fx.Node) -> bool:
    """Whether labels bring samples together on purpose on the way to a value: counted, sorted, compared in pairs, or picked by them."""
    model, flow = bench.model, bench.model.flow
    way = flow.descendants(seat.node) & (flow.ancestors(node) | {node})
    if any(model.op(n) in _SORTS or "pack" in model.op(n) for n in way):  # their results are two tensors, and their node is none
        return True
    for n in (n for n in way if isinstance(n.meta.get("val"), torch.Tensor)):
        texts = model.dims(n)
        if not any("B" in t for t in texts) or any(t.startswith("~") for t in texts) or bench.is_of_pairs(n):
            return True
    return False


def _is_in_order_of_labels(bench: Bench, node: fx.Node) -> bool:
    """Whether rows were put in an order that the labels have."""
    flow = bench.model.flow
    behind = flow.ancestors(node) & flow.descendants(*(s.node for s in bench.of_kind("label")))
    return any(bench.model.op(n) in _SORTS for n in behind)


def _of_another_row(bench: Bench, seat: Seat, node: fx.Node) -> Broken:
    model, flow = bench.model, bench.model.flow
    between = flow.descendants(seat.node) & (flow.ancestors(node) | {node})
    written = [n for n in flow.sorted(between) if ops.changes_in_place(ops.raw_name(n))]
    culprit = written[0] if written else node
    found = Found(
        model.where(culprit),
        label=f"the {seat.name} of one sample is written into the row of another",
        labels=model.labels((None if culprit is node else node, "rows of other samples are read here")),
        shapes=(model.row(culprit),),
        when="B > 1",
        why=f"each sample is given what the {seat.name} of other samples say, not its own",
        help="put the value at a place of the sample's own row: with scatter_(1, index, 1.0) the index runs along the classes; "
        "torch.nn.functional.one_hot does it",
    )
    return Broken("batch-mixed", found, "sample i moves row i and no other", f"one sample's {seat.name} moves the row of another sample")


def _on_the_way(bench: Bench) -> list[fx.Node]:
    """Values between the data and the loss's terms of reconstruction and KL, and what the draws of a sample are weighed with there."""
    model, flow = bench.model, bench.model.flow
    ends = [*(leaf.node for leaf in _asked(bench)), *(s.z for s in model.sites), *_weights(bench)]
    return [
        n for n in flow.sorted(flow.ancestors(*ends)) if n in flow.data and n.op != "placeholder" and bench.is_real(n) and bench.knows(n)
    ]


def _asked(bench: Bench) -> list[Leaf]:
    return [leaf for term in bench.model.terms if term.role in ("reconstruction", "kl", "mixed") for leaf in term.leaves]


def _weights(bench: Bench) -> list[fx.Node]:
    """What addends are weighed with on their way, by several numbers a sample: samples may be weighed against each other by one each."""
    products = [(leaf, n) for leaf in _asked(bench) for n in leaf.chain if ops.op(n) in ops.MUL]
    found = [n for leaf, link in products for n in ops.value_inputs(link) if n is not leaf.node and n not in leaf.chain]
    return [n for n in dict.fromkeys(found) if sum(size > 1 for size in shape(n)) > 1]


def _is_a_share(bench: Bench, node: fx.Node) -> bool:
    """Whether a value adds up to one over the batch, whatever else it is of."""
    axis = bench.batch_axis(node)
    return axis is not None and bench.knows(node) and bool((bench.value(node).double().sum(axis) - 1).abs().max() < _WHOLE)


def _in_two_orders(moved: list[frozenset[int]], samples: list[int]) -> bool:
    """Whether more than one sample moves its own row and another one."""
    return sum(sample in rows and len(rows) == 2 for sample, rows in zip(samples, moved, strict=True)) > 1


def _reads_statistic(bench: Bench, node: fx.Node) -> bool:
    """Whether an operand has no batch axis and yet comes from the data: a mean over the batch, a largest value."""
    flow = bench.model.flow
    return any(n in flow.data and not any("B" in t for t in bench.model.dims(n)) for n in node.all_input_nodes if bench.is_real(n))


def _reordered(node: fx.Node, rows: Rows, bench: Bench) -> fx.Node | None:
    """Of operands that hold samples in two orders, the operation that left the order of the data."""
    mine = [n for n in node.all_input_nodes if n in rows and rows[n] and not meet(rows[n]) and any(rows[n])]
    entered = any(n.op == "placeholder" and bench.batch_axis(n) is not None for n in node.all_input_nodes)  # in the order of the data
    if len({tuple(rows[n]) for n in mine}) < (1 if entered else 2):
        return None
    data = [n for n in mine if are_side_by_side(rows[n])]
    if entered and not data and len(mine) == 1:
        return _left_at(mine[0], rows, bench)
    odd = [n for n in mine if n not in data] if data else []
    if len(odd) != 1:
        return None
    if len({tuple(rows[n]) for n in data}) == 1:
        below = [n for n in bench.model.flow.descendants(node) | {node} if n in rows]
        return _left_at(misplaced(bench, data[0], odd[0], below) or odd[0], rows, bench)
    return _left_at(odd[0], rows, bench)


def _left_at(culprit: fx.Node, rows: Rows, bench: Bench) -> fx.Node:
    """The first value with this order; of parts that were joined, one that takes rows which another part has taken."""
    while (behind := next((n for n in _behind(culprit, rows) if rows[n] == rows[culprit]), None)) is not None:
        culprit = behind
    if ops.op(culprit) not in ops.JOIN:
        return culprit
    parts = [n for n in culprit.all_input_nodes if ops.op(n) in ops.SELECT and bench.knows(n)]
    moved = rows_moved(bench, parts) if len(parts) > 1 else {}
    taken: list[list[frozenset[int]]] = []
    for part in (n for n in parts if n in moved):
        if any(a and b for other in taken for a, b in zip(moved[part], other, strict=True)):
            return part
        taken.append(moved[part])
    return culprit


def _behind(node: fx.Node, rows: Rows) -> list[fx.Node]:
    """The values a node is made of, past what holds several of them: the tuple of a chunk."""
    found: list[fx.Node] = []
    for n in node.all_input_nodes:
        found += [n] if n in rows else [m for m in n.all_input_nodes if m in rows] if n.meta.get("val") is None else []
    return found


def _broken(bench: Bench, culprit: fx.Node, meets: fx.Node, rows: Rows) -> Broken:
    model, moved = bench.model, rows[meets]
    most = max(moved, key=len)
    label = f"{model.shape_text(culprit)}: copies or rows leave the order of the samples" if culprit is not meets else "samples meet here"
    softmax = model.op(meets) in ("softmax", "log_softmax") or (meets in _weights(bench) and _is_a_share(bench, meets))
    found = Found(
        model.pointed(culprit) or model.where(culprit),
        label="normalised over the samples of the batch" if softmax else label,
        labels=model.labels((None if culprit is meets else meets, "rows of different samples meet here")),
        shapes=(model.row(culprit),) if culprit is meets else (model.row(culprit), model.row(meets)),
        when="B > 1",
        why="each sample's loss and gradient depend on which other samples are in its batch",
        help="keep the batch axis apart: normalise over the classes (dim=-1), move the batch first before a reshape, "
        "repeat with repeat_interleave where copies of a sample belong side by side",
    )
    text = f"one sample moves {len(most)} rows of {model.written(meets)}, which other samples move too"
    return Broken("softmax-over-batch" if softmax else "batch-mixed", found, "sample i moves row i and no other", text)


def _is_another_order(moved: list[frozenset[int]], known: list[frozenset[int]], kept: list[list[frozenset[int]]]) -> bool:
    """Whether each sample has one row, in an order that is neither the data's nor a known one."""
    return all(len(rows) == 1 for rows in moved) and not meet(moved) and moved != known and moved not in kept


def _unrestored(
    bench: Bench, culprit: fx.Node, head: fx.Node, meets: fx.Node, label: str = "its rows are still in the order of the sorted lengths"
) -> Broken:
    model = bench.model
    found = Found(
        model.where(head),
        label=label,
        labels=model.labels((culprit, "sorted here"), (meets, "meets the samples in their own order here")),
        shapes=(model.row(head),),
        when="the lengths do not come sorted",
        why="each code decodes another sample than the one that it was encoded from",
        help="put the rows back before they are used: `h[order.argsort()]`, or pack with enforce_sorted=False, which does both",
    )
    return Broken(
        "batch-mixed", found, "sample i moves row i and no other", f"with other lengths, row 0 of {model.written(head)} is another sample's"
    )
