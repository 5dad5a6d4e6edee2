"""Law B1, for gradients that cancel: what the graph leads to the encoder arrives there.

Measured on the run's gradients. Where the reconstruction's gradient comes to the encoder's output by two ways, and the two are each other's
opposite, the encoder learns nothing of it though nothing is detached: a straight-through sum without its detach.

A sum that does not move with the encoder's output, however far that goes, is exempt where other addends of the reconstruction teach the
encoder: the two shapes of a beta distribution add up to its concentration, whatever its mean is; a row is at no distance from itself. Asked
are the elements that the addend reads. A code that was looked up does move.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.anatomy.posterior.codebooks import codebooks_of
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.rule import Found

_MOST = 40  # joins that are asked
_FAR = (1.0, 5.0, 25.0)  # steps of the layer's output, from where it is
_ROUNDED = 1e-4  # of what its operands move by, a sum that does not move


@law(
    "gradients-do-not-cancel",
    "the gradient that leads from the reconstruction to the encoder arrives there",
    covered=("VAE207", "VAE503", "VAE505"),
)
def gradients_do_not_cancel(bench: Bench) -> Iterator[Broken]:
    """The encoder's last layers before a draw or a code, and sums through which two ways lead to them."""
    for term in bench.model.terms:
        for leaf in term.leaves if term.role == "reconstruction" and term.detached is None else ():
            if not bench.knows(leaf.node) or not bench.value_with_graph(leaf.node).requires_grad:
                continue
            joins = _cancelled(bench, leaf.node)
            if joins and not (_is_taught_elsewhere(bench, term, leaf, joins[1]) and _is_constant(bench, leaf.node, *joins)):
                yield _broken(bench, *joins)
                return


def _cancelled(bench: Bench, leaf: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """The sum at which the gradient to the last layers of the encoder ends, and the layer; None where any of them has one."""
    model, flow = bench.model, bench.model.flow
    live = gradients_of(model).reach(leaf)
    made = {n for s in model.sites for n in flow.descendants(s.z)} | {n for b in codebooks_of(model) for n in flow.descendants(b.index)}
    layers = [n for n in flow.sorted(live - made) if ops.uses_parameter(n) and n in flow.data and bench.is_real(n) and bench.knows(n)]
    if not made or not layers:
        return None
    values = [bench.value_with_graph(n) for n in layers]
    total = bench.value_with_graph(leaf)
    if any(g is not None and bool(g.any()) for g in bench.base.gradient(total, values)):
        return None
    last = layers[-1]
    for node in [n for n in flow.sorted(live & flow.descendants(last)) if ops.op(n) in ops.ADD][:_MOST]:
        ways = [i for i in node.all_input_nodes if (i in flow.descendants(last) or i is last) and bench.is_real(i) and bench.knows(i)]
        if len(ways) > 1 and bench.knows(node) and _comes_by_each(bench, total, node, ways, last):
            return node, last
    return None


def _comes_by_each(bench: Bench, total: torch.Tensor, node: fx.Node, ways: list[fx.Node], layer: fx.Node) -> bool:
    """Whether a gradient comes to the layer by each way into a sum: that of all together is known to be 0."""
    base = bench.base
    after = base.gradient(total, [bench.value_with_graph(node)])[0]
    if after is None or not bool(after.any()):
        return False
    together = base.gradient((bench.value_with_graph(node) * after.detach()).sum(), [bench.value_with_graph(layer)])[0]
    if together is not None and bool(together.any()):
        return False  # they cancel further on, with a third
    for way in ways:
        value = bench.value_with_graph(way)
        if value.shape != after.shape:
            return False
        got = base.gradient((value * after.detach()).sum(), [bench.value_with_graph(layer)])[0]  # of a sum: but for the sign
        if got is None or not bool(got.any()):
            return False
    return True


def _is_constant(bench: Bench, leaf: fx.Node, node: fx.Node, layer: fx.Node) -> bool:
    """Whether what an addend reads of a sum of ways that move with the layer does not: wherever the layer's output is put, but for what
    rounding leaves."""
    slope = bench.base.gradient(bench.value_with_graph(leaf), [bench.value_with_graph(node)])[0]
    read = slope != 0 if slope is not None else torch.ones_like(bench.value(node), dtype=torch.bool)
    generator, here = torch.Generator().manual_seed(29), bench.value(layer)
    ways = [i for i in node.all_input_nodes if bench.is_real(i) and bench.knows(i)]
    for far in _FAR:
        moved = here + (far * torch.randn(here.shape, generator=generator)).to(here)
        got = bench.after({layer: moved}, [node, *ways])
        if not {node, *ways} <= got.keys():
            return False
        step = float((got[node] - bench.value(node))[read].abs().max())
        most = max(float((got[n] - bench.value(n)).abs().max()) for n in ways)
        if not step <= _ROUNDED * most or most == 0:
            return False
    return True


def _is_taught_elsewhere(bench: Bench, term: Term, leaf: Leaf, layer: fx.Node) -> bool:
    """Whether a gradient comes to the layer from other addends of the same reconstruction."""
    others = [bench.value_with_graph(o.node) for o in term.leaves if o.node is not leaf.node and bench.knows(o.node)]
    got = [bench.base.gradient(value, [bench.value_with_graph(layer)])[0] for value in others if value.requires_grad]
    return any(g is not None and bool(g.any()) for g in got)


def _broken(bench: Bench, node: fx.Node, layer: fx.Node) -> Broken:
    model = bench.model
    found = Found(
        model.where(node),
        label="two ways to the encoder, whose gradients cancel",
        labels=model.labels((layer, "the encoder's output: the reconstruction has no gradient here")),
        why="added and taken away again with its gradient, it only passes its value: the reconstruction does not train the encoder",
        help="detach the difference: z + (q - z).detach()",
    )
    rule = "vq-gradient" if codebooks_of(model) else "encoder-cut-off"
    text = "a gradient comes by each of two ways, and their sum is 0"
    return Broken(rule, found, "the reconstruction's gradient arrives at the encoder", text)
