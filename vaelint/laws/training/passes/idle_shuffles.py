"""Law B6, for whole rows: what is shuffled on its way to a critic differs from what was not.

Intervention: other orders are put in its place, in the recorded pass of the critic. Where the critic's loss is the same for any order,
the rows that it judges are still samples of the joint distribution, and the shuffle has no effect. Exempt are rows of data, and pairs:
what is shuffled beside something that is not has another loss for each order.

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
from vaelint.rule import Found

_FEWEST_ROWS = 3
_ROUNDING = 1e-6
_PICKS = frozenset({"getitem", "index", "index_select"})


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
