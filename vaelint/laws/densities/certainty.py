"""Law B3, for classes that are added up: certainty costs.

Where a bound is taken for every class and averaged with q(y|x), the loss is sum_y q(y) L(y) + sum_y q(y) log q(y), least at
q ~ exp(-L). Intervention: all bounds are held at 0 and the scores of q are sharpened. What is left is a KL of q to the classes' prior, and
rises; where it falls, the entropy has the other sign, and q is driven to one class whatever the data.

Source: Kingma et al. 2014, Semi-supervised learning with deep generative models, eq. 7.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Leaf
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.rule import Found


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
            if shape(q) != shape(bounds) or ops.op(bounds) not in ops.JOIN or q in flow.ancestors(bounds):
                continue
            scores = _scores(bench, q) if len(ops.value_inputs(bounds)) == shape(q)[-1] else None
            if scores is not None:
                yield q, scores, bounds


def _scores(bench: Bench, q: fx.Node) -> fx.Node | None:
    """What the one last layer behind q puts out, of which q makes positive rows that add up to one."""
    if not (bench.knows(q) and bench.is_real(q)):
        return None
    val, flow = bench.value(q).detach(), bench.model.flow
    layers = {n for n in flow.ancestors(q) if ops.uses_parameter(n)}
    last = [n for n in flow.ancestors(q, stop=layers) if n in layers]
    proper = bool((val >= 0).all()) and torch.allclose(val.sum(-1), torch.ones_like(val.sum(-1)), atol=1e-4)
    return last[0] if proper and len(last) == 1 and last[0] is not q and shape(last[0]) == shape(q) and bench.knows(last[0]) else None


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
