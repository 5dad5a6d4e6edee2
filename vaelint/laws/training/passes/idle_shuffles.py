"""Law B6, for whole rows: what is shuffled on its way to a critic differs from what was not.

Intervention: other orders are put in its place, in the recorded pass of the critic. Where the critic's loss is the same for any order,
the rows that it judges are still samples of the joint distribution, and the shuffle has no effect. Exempt are rows of data, and pairs:
what is shuffled beside something that is not has another loss for each order. So is an order that is read once more, to be undone, and one
of codes that are told from draws of the prior, where no codes as they come are judged as well.

Source: Kim & Mnih 2018, Disentangling by Factorising, algorithm 1: a permutation for each latent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.core.reach import reachable
from vaelint.experiment.trial import Trial
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.record.record import shape
from vaelint.rule import Found

_FEWEST_ROWS = 3
_ROUNDING = 1e-6
_PICKS = frozenset({"getitem", "index", "index_select", "gather", "take_along_dim"})
_SORTS = frozenset({"argsort", "sort"})


@law("shuffles-change-something", "what is shuffled on its way to a critic differs from what was not", covered=("VAE912",), cost="all")
def shuffles_change_something(bench: Bench) -> Iterator[Broken]:
    """Whole rows of codes in another order, of which a network's score is averaged: any order gives the same loss. Pairs do not."""
    flow, drawn = bench.model.flow, [n for n in bench.model.record.nodes if _is_an_order(bench.model.flow, n)]
    losses = [call.node for call in bench.model.record.backwards]
    if not drawn or not losses:
        return
    run = bench.trained_run
    for permutation in (n for n in drawn if run.has(n)):
        alike = reachable([permutation], lambda n: [u for u in flow.users.get(n, ()) if _is_laid_out(n, u)])
        picked = list(dict.fromkeys(u for n in alike for u in flow.users.get(n, ()) if u not in alike))
        loss = next((n for n in losses if permutation in flow.ancestors(n) and run.has(n)), None)
        if len(picked) != 1 or loss is None or not _picks_codes(flow, picked[0]) or not _scored(flow, picked[0], loss):
            continue
        if _is_any_order_alike(run, permutation, loss):
            yield _idle(bench, permutation, picked[0])
            return


def _is_an_order(flow: Flow, node: fx.Node) -> bool:
    """Whether one order of rows is drawn here: a permutation, or the order of as many random numbers as there are rows."""
    if ops.op(node) == "randperm":
        return True
    sorts = node.args[0] if ops.part(node) == 1 else node  # what sort() returns second
    one_axis = sum(n != 1 for n in shape(node)) == 1
    return one_axis and isinstance(sorts, fx.Node) and ops.op(sorts) in _SORTS and sorts in flow.pure_noise


def _is_laid_out(order: fx.Node, node: fx.Node) -> bool:
    """Whether a value is the order in another layout, `order[:, None]` as well."""
    viewed = ops.op(node) == "getitem" and node.all_input_nodes == [order] and math.prod(shape(node)) == math.prod(shape(order))
    return viewed or ops.op(node) in ops.SHAPE


def _picks_codes(flow: Flow, node: fx.Node) -> bool:
    return ops.op(node) in _PICKS and any(i in flow.learned for i in flow.inputs[node])


def _scored(flow: Flow, rows: fx.Node, loss: fx.Node) -> bool:
    """Whether a layer judges rows on their way to a loss, and for the same loss codes that are no such rows."""
    before, after = flow.ancestors(loss), flow.descendants(rows)
    judges = {i.target for n in (after & before) - {rows} for i in n.all_input_nodes if _is_weight(i)}
    others = [n for n in before - after if any(_is_weight(i) and i.target in judges for i in n.all_input_nodes)]
    return any(i in flow.data and i in flow.learned for n in others for i in flow.inputs[n])


def _is_weight(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.nn.Parameter)


def _is_any_order_alike(run: Trial, permutation: fx.Node, loss: fx.Node) -> bool:
    drawn = run.value(permutation)
    order = drawn.flatten()
    if order.numel() < _FEWEST_ROWS:
        return False
    flow = run.model.flow
    way = flow.descendants(permutation) & flow.ancestors(loss)
    read = {i for n in way for i in n.all_input_nodes if i not in way and i in run.pairs and not run.has(i)}
    read = {n for n in read if isinstance(run.pairs[n].meta.get("val"), torch.Tensor)}
    moved = {n: run.like(n).detach().clone() for n in read}  # weights that a step has moved since: any will do
    mixed = order[torch.randperm(len(order), generator=torch.Generator().manual_seed(5)).to(order.device)]
    orders = ({**moved, permutation: one.reshape(drawn.shape)} for one in (order, order.roll(1), order.flip(0), mixed))
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
