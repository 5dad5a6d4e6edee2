"""Law A1, for tables: what a sample gives hangs on no place in the batch.

Intervention: all samples change places, and their noise with them. Prediction: every value has its rows in the new order. Where samples do
not meet and it has not, a row of a table that the model keeps is given to a place of the batch, not to a step or a sample.

Exempt: one number a row, such as a share, a temperature or whether it is labelled, a table with as many rows as there are samples, which
may be one of all the data, and what is drawn or takes part in a draw.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from vaelint.experiment.verdict import CannotMeasureError
from vaelint.faults.batch.linked import rows_are_linked
from vaelint.faults.batch.mixing import batch_of
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.samples.moved_rows import meet, rows_moved
from vaelint.record import ops
from vaelint.record.record import is_tensor, shape
from vaelint.rule import Found

_SAME = 1e-4
_CUT = ops.SHAPE | ops.SELECT | ops.POINTWISE | {"embedding", "arange", "get_attr", "placeholder"}


@law(
    "samples-have-no-places",
    "samples in another order give the same in that order",
    covered=("VAE102", "VAE103", "VAE104", "VAE106", "VAE107", "VAE111"),
)
def samples_have_no_places(bench: Bench) -> Iterator[Broken]:
    """Tables that the model keeps, more rows than samples, of which one row for each sample meets the data."""
    flow, batch = bench.model.flow, bench.base.batch
    draws, heads = {s.z for s in bench.model.sites}, {h for s in bench.model.sites for h in s.heads}
    drawing = flow.descendants(*heads) - flow.descendants(*draws) | draws
    for node in flow.sorted(flow.data - drawing):
        ours = [n for n in node.all_input_nodes if n not in flow.data and n not in flow.noisy and _is_of_rows(bench, n)]
        if not ours or batch is None or not bench.is_real(node) or not bench.knows(node) or bench.batch_axis(node) is None:
            continue
        if any(bench.is_of_pairs(n) for n in bench.model.record.inputs.values()) or rows_are_linked(bench.model):
            return
        if batch_of(bench.model).runs_over_time or bench.draws_order(node):
            return
        before = rows_moved(bench, [n for n in node.all_input_nodes if n in flow.data and bench.knows(n)] + [node])
        if node in before and not any(meet(moved) for moved in before.values()) and _hangs_on_places(bench, node):
            yield _broken(bench, node, ours[0])
            return


def _is_of_rows(bench: Bench, node: fx.Node) -> bool:
    """Whether a value has a row of several numbers for each sample, out of a table of the model's that has more of them."""
    axis, flow = bench.batch_axis(node), bench.model.flow
    if axis is None or not bench.is_real(node) or not bench.knows(node) or sum(n > 1 for n in shape(bench.base.node(node))) < 2:
        return False
    rows = bench.value(node).movedim(axis, 0)
    behind = {n for n in flow.ancestors(node) if is_tensor(n)}
    tables = [n for n in behind if n.op == "get_attr" and any(size > len(rows) for size in shape(n)[:-1])]
    return bool(tables) and all(ops.op(n) in _CUT for n in behind) and len(rows) == bench.base.batch and bool((rows != rows[:1]).any())


def _hangs_on_places(bench: Bench, node: fx.Node) -> bool:
    """Whether the value has other rows where the samples come in another order."""
    axes = {s.node: s.axis for s in bench.seats}
    axes |= {n: axis for n in bench.model.flow.random if (axis := bench.batch_axis(n)) is not None and bench.knows(n)}
    try:
        after = bench.after({n: bench.value(n).roll(1, axis) for n, axis in axes.items()}, [node]).get(node)
    except CannotMeasureError:
        return False
    before = bench.value(node).roll(1, bench.batch_axis(node) or 0)
    return after is not None and after.shape == before.shape and float((after - before).abs().max()) > _SAME * float(before.abs().max())


def _broken(bench: Bench, node: fx.Node, rows: fx.Node) -> Broken:
    model, flow = bench.model, bench.model.flow
    cut = next(n for n in flow.sorted(flow.ancestors(rows) | {rows}) if bench.batch_axis(n) is not None and bench.knows(n))
    found = Found(
        model.where(cut),
        label=f"{model.shape_text(cut)}: one row of a table for each place in the batch",
        labels=model.labels((None if node is cut else node, "meets the samples here")),
        shapes=(model.row(cut), model.row(node)),
        when="B > 1",
        why="what a sample gives depends on its place in the batch, and the table no longer tells steps apart",
        help="cut the table by the axis that it is about, table[: x.size(1)] where x is (B, T, ...), and let it broadcast over the samples",
    )
    return Broken("batch-read-as-time", found, "samples in another order give the same in that order", "their rows are other ones")
