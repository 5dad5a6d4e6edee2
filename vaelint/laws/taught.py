"""Law B2: what is added to a loss pulls at something that the loss's own optimizer moves.

Intervention: the draw is moved. An addend that follows, and whose gradient reaches only networks that another optimizer owns, teaches
nobody: an adversarial term on a detached reconstruction leads to the critic alone, whose gradient nobody uses.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.anatomy.loss.terms import Leaf
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.addends import entered, moved_by_draws
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.rule import Found

_NOTHING = 1e-6


@law(
    "addends-pull-at-what-moves",
    "every term that depends on the draw has a gradient for a parameter that the loss's optimizer updates",
    covered=("VAE503", "VAE504", "VAE509"),
)
def addends_pull_at_what_moves(bench: Bench) -> Iterator[Broken]:
    """Only where the step itself steps its optimizers, so that it is known who owns what."""
    owned = _owned(bench)
    if not owned:
        return
    for term in bench.model.terms:
        for leaf in term.leaves if term.role not in ("constant", "kl") and term.detached is None else ():
            idle = bool(leaf.node.meta.get("grad")) and not _pulled(bench, leaf.node) & owned
            cut = _cut(bench, leaf, owned) if idle and bench.knows(leaf.node) else None
            if cut is None or _reaches(bench, leaf, owned):
                continue
            moved = moved_by_draws(bench, leaf)
            if moved > _NOTHING:
                yield _idle(bench, leaf, cut, moved)
                return


def _owned(bench: Bench) -> set[fx.Node]:
    """The parameters that the loss's own backward pass moved in the step: the model's, and those of networks that the step made."""
    record = bench.model.record
    objective = next((o for o in record.objectives if o.loss is record.loss), None)
    if objective is None:
        return set()
    moved = set().union(*(record.backwards[i].moved for i in objective.passes))  # an objective counts the model's alone
    return {n for n in record.nodes if id(n.meta.get("val")) in moved}


def _pulled(bench: Bench, node: fx.Node) -> set[fx.Node]:
    """What a gradient of the node arrives at."""
    return gradients_of(bench.model).reach(node)


def _cut(bench: Bench, leaf: Leaf, owned: set[fx.Node]) -> fx.Node | None:
    """The last operation on the way to an addend at which the gradient to what is owned ends."""
    flow = bench.model.flow
    cuts = [
        n
        for n in flow.ancestors(leaf.node)
        if n.op == "call_function" and not n.meta.get("grad") and any(_pulled(bench, i) & owned for i in n.all_input_nodes)
    ]
    return max(cuts, key=lambda n: flow.order[n], default=None)


def _reaches(bench: Bench, leaf: Leaf, owned: set[fx.Node]) -> bool:
    """Whether a gradient arrives at what is owned in the real run."""
    value = bench.value_with_graph(leaf.node)
    if not value.requires_grad:
        raise CannotMeasureError("the addend has no gradient in the real run")
    known = [bench.value_with_graph(n) for n in owned if bench.knows(n)]
    return any(g is not None and bool(g.any()) for g in bench.base.gradient(value, known))


def _idle(bench: Bench, leaf: Leaf, cut: fx.Node, moved: float) -> Broken:
    model, flow = bench.model, bench.model.flow
    way = flow.ancestors(leaf.node)
    readers = [u for u in flow.users.get(cut, ()) if u in way]
    shared = len(readers) < len(flow.users.get(cut, ()))  # what is cut off for the other network's turn is right there
    at = min(readers, key=flow.order.__getitem__) if shared and readers else cut
    addend = (leaf.node, f"this addend of the loss ({model.written(leaf.node)}) is computed from it")
    found = Found(
        entered(at, leaf.node) or model.where(at),
        label="the gradient to what this loss trains ends here"
        if at is cut
        else "takes a value without a gradient to what this loss trains",
        labels=model.labels(addend) if at is cut else model.labels((cut, "the gradient ends here"), addend),
        why="the term pulls only at a network that another optimizer owns: the encoder and the decoder never learn from it",
        help="leave the detach to the other network's own loss; here the gradient must pass through that network to the decoder",
    )
    text = f"it moves by {moved:.2g} of its size with the draw, and no parameter that this loss's optimizer moves has a gradient of it"
    return Broken("term-moves-nothing", found, "an addend has a gradient in what its optimizer moves", text)
