"""Law B2, for steps: the loss that is differentiated for an optimizer's step has a gradient in what the optimizer holds.

Observed on the step as it runs, with its optimizers. A loss whose value is made by the optimizer's own parameters and whose gradient
ends on the way leaves its step nothing to follow: an encoder that is to fool a critic, with a code that was detached for the critic's turn.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from vaelint.core.finding import Label
from vaelint.laws.addends import entered
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import GradientUse
from vaelint.rule import Found


@law(
    "steps-have-gradients",
    "the loss that is differentiated for a step has a gradient in what the step moves",
    covered=("VAE207", "VAE503", "VAE504", "VAE509", "VAE511", "VAE901"),
    cost="all",
)
def steps_have_gradients(bench: Bench) -> Iterator[Broken]:
    """Steps of which no parameter was given a gradient, where the loss before them is computed with these parameters."""
    empty = [u for u in bench.model.record.uses if u.kind == "empty" and u.passes]
    if not empty or not bench.model.record.objectives:
        return
    real = {u.place for u in bench.trained.uses if u.kind == "empty"}
    for use in empty:
        if use.place in real and (cut := _cut(bench, use)) is not None:
            yield _empty(bench, use, cut)
            return


def _cut(bench: Bench, use: GradientUse) -> fx.Node | None:
    """The last operation on the way from the step's parameters to the loss before it at which the gradient ends."""
    flow, loss = bench.model.flow, bench.model.record.backwards[use.passes - 1].node
    way = flow.ancestors(loss)
    own = [n for n in way if n.op == "get_attr" and id(n.meta.get("val")) in use.of]
    cuts = [n for n in flow.descendants(*own) & way if n.op == "call_function" and not n.meta.get("grad")] if own else []
    return max(cuts, key=flow.order.__getitem__, default=None)


def _freed_instead(bench: Bench, cut: fx.Node, use: GradientUse) -> fx.Node | None:
    """After the freezing and before the loss of this turn, the last setting free of parameters that have been free all the time."""
    order, passed = bench.model.flow.order, bench.model.record.backwards[use.passes - 1]
    freed, frozen = list[fx.Node](), set[int]()
    for node in sorted((n for n in bench.model.record.nodes if ops.raw_name(n) == "requires_grad_" and n.args), key=order.__getitem__):
        of = id(node.args[0].meta.get("val")) if isinstance(node.args[0], fx.Node) else 0
        if not (node.args[1] if len(node.args) > 1 else node.kwargs.get("requires_grad", True)):
            frozen.add(of)
        elif of not in frozen | use.of and order[cut] < order[node] < passed.at:
            freed.append(node)
    return freed[-1] if freed else None


def _empty(bench: Bench, use: GradientUse, cut: fx.Node) -> Broken:
    model = bench.model
    passed = model.record.backwards[use.passes - 1]
    read = min(
        (n for n in model.flow.users.get(cut, ()) if n in model.flow.ancestors(passed.node)), key=model.flow.order.__getitem__, default=cut
    )
    frozen = ops.raw_name(cut) == "requires_grad_"
    instead = _freed_instead(bench, cut, use) if frozen else None
    here = entered(cut, passed.node)
    if instead is not None:
        place, label = entered(instead, passed.node), "sets free what was not frozen, and not what this loss is to train"
        marks = tuple(Label(p, "frozen here") for p in (here,) if p is not None)
    elif frozen:
        place, label, marks = here, "frozen here, and not set free before the turn that is to train them", ()
    else:
        place, label = entered(read, passed.node), "takes a value without a gradient to the parameters that this loss is to train"
        marks = model.labels((cut, "the gradient ends here"))
    found = Found(
        place or model.where(cut),
        label=label,
        labels=(*marks, *model.labels((passed.node, "the loss of this turn"))),
        why="the step of their optimizer moves nothing: the term pulls only at the network that another optimizer owns",
        help="set requires_grad to True again before this turn"
        if frozen
        else "compute the value again, or keep its graph: detach it only for the other network's own turn",
    )
    text = f"none of the {len(use.of)} parameters that the step on line {use.place.line if use.place else '?'} holds was given a gradient"
    return Broken("term-moves-nothing", found, "the loss before a step has a gradient in what the step moves", text)
