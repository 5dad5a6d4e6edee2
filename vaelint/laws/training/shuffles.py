"""Law B6, for shuffles: columns that are taken apart to be shuffled are shuffled apart.

Read off a real run: what comes out of column after column has other rows than what went in. Where one permutation served all columns, the
rows are whole again, in another order: a sample of the joint distribution, where one of the product of its marginals was wanted. Where
the columns change their places, each row keeps all of its own values: what one network tells from rows as they are is no product either.

Source: Kim & Mnih 2018, Disentangling by Factorising, algorithm 1: a permutation for each latent.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.experiment.trial import Trial
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.rule import Found

_PICKS = frozenset({"getitem", "index", "index_select", "take_along_dim", "gather", "index_put", "setitem"})


@law(
    "columns-are-shuffled-apart",
    "columns that are shuffled one by one are in rows of their own afterwards",
    covered=("VAE912",),
    cost="all",
)
def columns_are_shuffled_apart(bench: Bench) -> Iterator[Broken]:
    """Matrices whose columns one permutation has picked, one by one. Blocks that belong together are shuffled together."""
    flow, drawn = bench.model.flow, [n for n in bench.model.record.nodes if ops.op(n) == "randperm"]
    if not drawn:
        return
    run = bench.trained_run if bench.model.record.objectives else bench.base
    for permutation in (n for n in drawn if run.has(n)):
        after = flow.descendants(permutation)
        if (exchanged := _of_exchanged_columns(bench, run, permutation, after)) is not None:
            yield _exchanged(bench, permutation, *exchanged)
            return
        picked = [n for n in after if ops.op(n) in _PICKS and permutation in n.all_input_nodes]
        matrices = {n for n in after if len(shape(n)) == 2 and shape(n)[1] > 1 and run.has(n)} if len(picked) > 1 else set[fx.Node]()
        for whole in flow.sorted(matrices):
            above = flow.ancestors(whole)
            source = next((s for s in above - after if shape(s) == shape(whole) and _same_rows(run, s, permutation, whole)), None)
            if source is not None and sum(n in above for n in picked) >= shape(whole)[1]:  # fewer pick blocks, as of a mean and its spread
                yield _together(bench, permutation, whole, source)
                return


def _same_rows(run: Trial, source: fx.Node, permutation: fx.Node, whole: fx.Node) -> bool:
    """Whether all columns of a value are those of the source in one order, which moved them."""
    if not run.has(source) or not run.value(source).is_floating_point():
        return False
    before, order, after = (run.value(n).detach() for n in (source, permutation, whole))
    return len(order) == len(before) and torch.equal(before[order.to(before.device)], after) and not torch.equal(before, after)


def _of_exchanged_columns(bench: Bench, run: Trial, permutation: fx.Node, after: set[fx.Node]) -> tuple[fx.Node, fx.Node] | None:
    """A drawn value and the same with its columns exchanged, where one layer is given both: what tells joint from marginal draws."""
    flow, order = bench.model.flow, run.value(permutation).detach()
    for whole in flow.sorted({n for n in after if len(shape(n)) == 2 and shape(n)[1] == len(order) > 1 and run.has(n)}):
        source = next((n for n in ops.value_inputs(whole) if n in flow.noisy and shape(n) == shape(whole) and run.has(n)), None)
        if source is None or not torch.equal(run.value(source).detach()[:, order.to(run.value(source).device)], run.value(whole).detach()):
            continue
        below = flow.descendants(whole)
        told = {p for n in below for p in _weights(bench, n)}
        if any(told & _weights(bench, n) for s in bench.model.sites for n in flow.descendants(s.z) - below):
            return source, whole
    return None


def _weights(bench: Bench, node: fx.Node) -> set[object]:
    """What a layer has of its own, wherever it was made: the same for two calls of it."""
    if ops.op(node) not in ops.LAYERS:
        return set()
    return {i.target if i.op == "get_attr" else i for i in node.all_input_nodes if i not in bench.model.flow.data}


def _exchanged(bench: Bench, permutation: fx.Node, source: fx.Node, whole: fx.Node) -> Broken:
    model = bench.model
    found = Found(
        model.where(permutation),
        label="an order for the columns",
        labels=model.labels((source, "the draws"), (whole, "each row has its own values still, at other places")),
        why="a draw of the product of the marginals takes each latent from another sample: here each row is one sample, with its latents "
        "exchanged for each other",
        help="draw a permutation of the samples for each column: z[torch.randperm(len(z)), j]",
    )
    return Broken("shuffled-together", found, "the values of a row are those of several samples", "they are those of one, at other places")


def _together(bench: Bench, permutation: fx.Node, whole: fx.Node, source: fx.Node) -> Broken:
    model = bench.model
    found = Found(
        model.where(permutation),
        label="one order for all columns",
        labels=model.labels((source, "taken apart column by column"), (whole, "the rows are whole again, in another order")),
        why="each row is still one sample of the joint distribution: a critic sees no difference",
        help="draw a permutation for each column: z[torch.randperm(len(z)), j]",
    )
    return Broken("shuffled-together", found, "the rows differ from those that went in", "they are the same rows, in another order")
