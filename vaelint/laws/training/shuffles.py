"""Law B6, for shuffles: columns that are taken apart to be shuffled are shuffled apart.

Read off a real run: what comes out of column after column has other rows than what went in. Where one permutation served all columns, the
rows are whole again, in another order: a sample of the joint distribution, where one of the product of its marginals was wanted.

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
from vaelint.record.flow import Flow
from vaelint.record.record import shape
from vaelint.rule import Found

_FEWEST_ROWS = 3
_ROUNDING = 1e-6
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
        picked = [n for n in after if ops.op(n) in _PICKS and permutation in n.all_input_nodes]
        matrices = {n for n in after if len(shape(n)) == 2 and shape(n)[1] > 1 and run.has(n)} if len(picked) > 1 else set[fx.Node]()
        for whole in flow.sorted(matrices):
            above = flow.ancestors(whole)
            source = next((s for s in above - after if shape(s) == shape(whole) and _same_rows(run, s, permutation, whole)), None)
            if source is not None and sum(n in above for n in picked) >= shape(whole)[1]:  # fewer pick blocks, as of a mean and its spread
                yield _together(bench, permutation, whole, source)
                return


@law("shuffles-change-something", "what is shuffled on its way to a critic differs from what was not", covered=("VAE912",), cost="all")
def shuffles_change_something(bench: Bench) -> Iterator[Broken]:
    """Whole rows of codes in another order, of which a network's score is averaged: any order gives the same loss. Pairs do not."""
    flow, drawn = bench.model.flow, [n for n in bench.model.record.nodes if ops.op(n) == "randperm"]
    losses = [call.node for call in bench.model.record.backwards]
    if not drawn or not losses:
        return
    run = bench.trained_run
    for permutation in (n for n in drawn if run.has(n)):
        picked = [n for n in flow.users.get(permutation, ()) if ops.op(n) in _PICKS and any(i in flow.learned for i in flow.inputs[n])]
        loss = next((n for n in losses if permutation in flow.ancestors(n) and run.has(n)), None)
        if len(picked) != 1 or loss is None or not _scored(flow, picked[0], loss):
            continue
        if _is_any_order_alike(run, permutation, loss):
            yield _idle(bench, permutation, picked[0])
            return


def _scored(flow: Flow, rows: fx.Node, loss: fx.Node) -> bool:
    """Whether a layer judges rows on their way to a loss."""
    way = (flow.descendants(rows) & flow.ancestors(loss)) - {rows}
    return any(isinstance(i.meta.get("val"), torch.nn.Parameter) for n in way for i in n.all_input_nodes)


def _is_any_order_alike(run: Trial, permutation: fx.Node, loss: fx.Node) -> bool:
    order = run.value(permutation)
    if order.numel() < _FEWEST_ROWS:
        return False
    flow = run.model.flow
    way = flow.descendants(permutation) & flow.ancestors(loss)
    read = {i for n in way for i in n.all_input_nodes if i not in way and i in run.pairs and not run.has(i)}
    read = {n for n in read if isinstance(run.pairs[n].meta.get("val"), torch.Tensor)}
    moved = {n: run.like(n).detach().clone() for n in read}  # weights that a step has moved since: any will do
    mixed = order[torch.randperm(len(order), generator=torch.Generator().manual_seed(5)).to(order.device)]
    orders = ({**moved, permutation: one} for one in (order, order.roll(1), order.flip(0), mixed))
    given, *found = (float(run.recompute([loss], changes, inside=way)[loss].detach().double().sum()) for changes in orders)
    return all(abs(one - given) <= _ROUNDING * max(1.0, abs(given)) for one in found)


def _idle(bench: Bench, permutation: fx.Node, picked: fx.Node) -> Broken:
    found = Found(
        bench.model.where(permutation),
        label="one order for all columns",
        labels=bench.model.labels((picked, "whole rows, in another order")),
        why="each row is still one sample of the joint distribution: what judges the rows sees no difference, and any order gives its loss",
        help="draw a permutation for each column: z[torch.randperm(len(z)), j]",
    )
    return Broken("shuffled-together", found, "the loss differs from one order to another", "the loss is the same for four orders")


def _same_rows(run: Trial, source: fx.Node, permutation: fx.Node, whole: fx.Node) -> bool:
    """Whether all columns of a value are those of the source in one order, which moved them."""
    if not run.has(source) or not run.value(source).is_floating_point():
        return False
    before, order, after = (run.value(n).detach() for n in (source, permutation, whole))
    return len(order) == len(before) and torch.equal(before[order.to(before.device)], after) and not torch.equal(before, after)


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
