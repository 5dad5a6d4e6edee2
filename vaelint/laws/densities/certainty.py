"""Law B3, for classes that are added up: certainty costs.

Where a bound is taken for every class and averaged with q(y|x), the loss is sum_y q(y) L(y) + sum_y q(y) log q(y), least at
q ~ exp(-L). Intervention: all bounds are held at 0 and the scores of q are sharpened. What is left is a KL of q to the classes' prior, and
rises; where it falls, the entropy has the other sign, and q is driven to one class whatever the data.

Source: Kingma et al. 2014, Semi-supervised learning with deep generative models, eq. 7.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Leaf
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.rule import Found

_FEWEST = 2  # classes


@law("certainty-costs", "with equal bounds for all classes, a sharper q(y|x) costs more", covered=("VAE407", "VAE419"))
def certainty_costs(bench: Bench) -> Iterator[Broken]:
    """Products of a softmax with what was computed for each class. A gate of experts has no term in its own scores alone."""
    for q, scores, bounds in _averages(bench):
        alone = [leaf for leaf in _of(bench, scores, q) if bench.knows(leaf.node)]
        if not alone:
            continue
        flat, sharp = (_cost(bench, alone, scores, size) for size in (0.0, 4.0))
        if flat is None or sharp is None or not sharp < flat - 1e-4 * abs(flat):
            continue
        yield _rewarded(bench, alone[-1], q, bounds, flat, sharp)
        return


def _averages(bench: Bench) -> Iterator[tuple[fx.Node, fx.Node, fx.Node]]:
    """q, its scores, and the values that it averages: stacked, one for each class. q may be made in any way: it is told by its values."""
    flow = bench.model.flow
    for node in bench.model.record.nodes:
        if ops.op(node) not in ops.MUL or len(node.all_input_nodes) != 2:
            continue
        for q, bounds in (tuple(node.all_input_nodes), tuple(node.all_input_nodes)[::-1]):
            if shape(q) != shape(bounds) or q in flow.ancestors(bounds):
                continue
            stacked = ops.op(bounds) in ops.JOIN and len(ops.value_inputs(bounds)) == shape(q)[-1]
            scores = _scores(bench, q) if stacked or _are_cut(bench, bounds) else None
            if scores is not None:
                yield q, scores, bounds
    yield from _one_by_one(bench)


def _are_cut(bench: Bench, bounds: fx.Node) -> bool:
    """Whether bounds of all classes were computed in one batch, class by class, and then laid out in a table."""
    node = bounds
    while ops.op(node) in ops.SHAPE and ops.value_inputs(node):
        node = ops.value_inputs(node)[0]
    return (
        node is not bounds and len(shape(node)) == 1 and bool(bench.model.flow.ancestors(node) & {r.pair.recon for r in bench.model.recons})
    )


def _one_by_one(bench: Bench) -> Iterator[tuple[fx.Node, fx.Node, fx.Node]]:
    """The same where a loop takes q's columns in turn, each times the bound of its class; the last of the bounds stands for all."""
    flow, recons = bench.model.flow, {r.pair.recon for r in bench.model.recons}
    taken: dict[fx.Node, list[fx.Node]] = {}
    for node in bench.model.record.nodes:
        inputs = ops.value_inputs(node) if ops.op(node) in ops.MUL else []
        for column, bound in (inputs, inputs[::-1]) if len(inputs) == 2 else ():
            q = column
            while ops.op(q) in ops.SHAPE | ops.SELECT and ops.value_inputs(q):
                q = ops.value_inputs(q)[0]
            is_column = q is not column and shape(q)[-1:] and math.prod(shape(q)) == shape(q)[-1] * math.prod(shape(column))
            if is_column and flow.ancestors(bound) & recons and q not in flow.ancestors(bound):
                taken.setdefault(q, []).append(bound)
    for q, bounds in taken.items():
        scores = _scores(bench, q) if len(bounds) == shape(q)[-1] >= _FEWEST else None
        if scores is not None:
            yield q, scores, bounds[-1]


def _scores(bench: Bench, q: fx.Node) -> fx.Node | None:
    """What the one last layer behind q puts out, of which q makes positive rows that add up to one."""
    if not (bench.knows(q) and bench.is_real(q)):
        return None
    val, flow = bench.value(q).detach(), bench.model.flow
    if not (bool((val >= 0).all()) and torch.allclose(val.sum(-1), torch.ones_like(val.sum(-1)), atol=1e-4)):
        return None
    layers = {n for n in flow.ancestors(q) if ops.uses_parameter(n)}
    last = [n for n in flow.ancestors(q, stop=layers) if n in layers]
    return last[0] if len(last) == 1 and last[0] is not q and shape(last[0]) == shape(q) and bench.knows(last[0]) else None


def _of(bench: Bench, scores: fx.Node, q: fx.Node) -> list[Leaf]:
    """The addends of the loss that are made of the scores alone."""
    flow = bench.model.flow
    found = []
    for term in bench.model.terms:
        for leaf in term.leaves:
            ends = {scores}
            behind = flow.ancestors(leaf.node, stop=ends)
            if (
                term.detached is None
                and scores in behind
                and not any(ops.uses_parameter(n) or n.op == "placeholder" for n in behind - ends)
            ):
                found.append(leaf)
    return found


def _cost(bench: Bench, leaves: list[Leaf], scores: fx.Node, size: float) -> float | None:
    """What the addends cost, as they are weighed in the loss, at scores of this size."""
    val = bench.value(scores)
    generator = torch.Generator().manual_seed(2)
    new = size * torch.randn(val.shape, generator=generator).to(val)
    got = bench.after({scores: new}, [leaf.node for leaf in leaves])
    total = 0.0
    for leaf in leaves:
        weight = bench.base.gradient(bench.base.loss, [bench.value_with_graph(leaf.node)])[0]
        if weight is None or leaf.node not in got:
            return None
        total += float((got[leaf.node].double() * weight.detach().double()).sum())
    return total


def _rewarded(bench: Bench, leaf: Leaf, q: fx.Node, bounds: fx.Node, flat: float, sharp: float) -> Broken:
    model = bench.model
    after = model.flow.descendants(leaf.node) & model.flow.descendants(bounds)
    signed = next((n for n in model.flow.sorted(after) if ops.op(n) in ops.ADD), leaf.node)
    found = Found(
        model.where(signed),
        label="rewards a q(y|x) that is sure of one class",
        labels=model.labels((q, "q(y|x)"), (bounds, "averaged with it")),
        why="the bound has minus the entropy of q(y|x) in the loss; with a plus every sample is driven to one class, whatever the data",
        help="loss = (q * bounds).sum(1) - entropy, with entropy = -(q * log q).sum(1)",
    )
    text = f"with equal bounds the loss goes from {flat:.4g} to {sharp:.4g} when q(y|x) is sharpened"
    return Broken("kl-sign", found, "the loss rises when q(y|x) is sharpened and all classes are alike", text)


@law("classes-are-asked-for", "something other than its own KL moves with q(y|x)", covered=("VAE211", "VAE407", "VAE419"))
def classes_are_asked_for(bench: Bench) -> Iterator[Broken]:
    """A q(y|x) whose bounds are stacked, one for each class, and added up without it: only its own KL is left to train it."""
    flow, model = bench.model.flow, bench.model
    for bounds in flow.sorted({n for n in model.reaching_loss if ops.op(n) in ops.JOIN and bench.is_real(n)}):
        classes = len(ops.value_inputs(bounds))
        for q in flow.sorted(model.reaching_loss - flow.descendants(bounds)):
            if (
                not bench.is_real(q)
                or shape(q)[-1:] != (classes,)
                or len(shape(q)) != 2
                or classes not in shape(bounds)
                or classes < _FEWEST
            ):
                continue
            scores = _scores(bench, q)
            if scores is None or bounds in flow.descendants(scores) or not _are_bounds(bench, bounds):
                continue
            below = flow.descendants(scores)
            moved = [leaf for term in model.terms for leaf in term.leaves if leaf.node in below]
            alone = _of(bench, scores, q)
            if alone and all(any(leaf is other for other in alone) for leaf in moved):
                yield _unasked(bench, alone[-1], q, bounds)
                return


def _are_bounds(bench: Bench, bounds: fx.Node) -> bool:
    """Whether what is stacked are errors of one model, one for each class: made of the data twice, as decoded and as it is."""
    flow, recons = bench.model.flow, [r.pair.recon for r in bench.model.recons]
    ways = ops.value_inputs(bounds)
    return len(recons) >= len(ways) and all(flow.ancestors(n) & set(recons) for n in ways) and set(ways) <= flow.learned


def _unasked(bench: Bench, leaf: Leaf, q: fx.Node, bounds: fx.Node) -> Broken:
    model = bench.model
    added = next(iter(model.flow.sorted({u for u in model.flow.users.get(bounds, ()) if u in model.reaching_loss})), bounds)
    found = Found(
        model.where(added),
        label="added up without q(y|x)",
        labels=model.labels((q, "q(y|x)"), (leaf.node, "its KL, all that moves with it")),
        why="the bound averages over the classes with q(y|x); without it every class must explain every sample, "
        "and q(y|x) goes to its prior whatever the data",
        help="loss = (q * bounds).sum(1) + KL(q(y|x) || p(y))",
    )
    text = "with other scores its own KL moves, and no other term"
    return Broken("posterior-not-used", found, "the reconstruction's part in the loss moves with q(y|x)", text)
