"""Law B2, for the sleep phase: what a network is to tell from its input has something to do with that input.

Observed on the step as it runs, then an intervention: a loss holds what a network makes of the data against a draw that knows nothing of
the data, row by row, as it changes where the rows of the draw change places. What a layer made of that draw, a dream of the data's sizes,
reaches no loss. The best that the network can do is to leave its input out.

Source: Hinton et al. 1995, The wake-sleep algorithm: in the sleep phase the recognition weights learn from dreamt pairs of cause and data.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.late import dataclass
from vaelint.laws.addends import entered
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record.record import shape
from vaelint.rule import Found

_NOTHING = 1e-5


@dataclass(frozen=True)
class _Unread:
    """A loss, the draw that it holds against what a network makes of the data, where they enter it, and the dream that nothing reads."""

    loss: fx.Node
    cause: fx.Node
    entry: fx.Node
    dream: fx.Node


@law(
    "dreams-are-recognised",
    "a network that learns to tell a draw from its input is given what was made of that draw",
    covered=("VAE901", "VAE908"),
    cost="all",
)
def dreams_are_recognised(bench: Bench) -> Iterator[Broken]:
    """Draws whose decoded values are thrown away. A distance between sets, as MMD, does not change with the order of the draws."""
    record = bench.model.record
    if not record.objectives:
        return
    losses = [o.loss for o in record.objectives if o.loss is not None] + [leaf.node for t in bench.model.terms for leaf in t.leaves]
    found = next((u for loss in dict.fromkeys(losses) if (u := _unread(bench, loss)) is not None), None)
    if found is None:
        return
    run, axis = bench.trained_run, bench.batch_axis(found.cause)
    if axis is None or not run.has(found.cause) or not run.has(found.loss):
        return
    value = run.value(found.cause).detach()
    same, turned = (run.recompute([found.loss], {found.cause: v})[found.loss].detach() for v in (value.clone(), value.flip(axis)))
    gap = float((same - turned).abs().max())
    if gap > _NOTHING * max(1.0, float(same.abs().max())):
        yield _asleep(bench, found, gap)


def _unread(bench: Bench, loss: fx.Node) -> _Unread | None:
    """A draw that a loss holds against what learns from the data, where what was decoded from it goes nowhere."""
    model, flow, record = bench.model, bench.model.flow, bench.model.record
    moved = set().union(*(call.moved for call in record.backwards))
    layers = {n for n in gradients_of(model).reach(loss) if n.op == "call_function" and _weights(n) & moved}
    inputs = set(record.inputs.values())
    fed = flow.ancestors(*layers) if layers else set()
    beside = flow.ancestors(loss, stop=layers) - layers
    if not fed & inputs or beside & inputs:
        return None
    read = flow.ancestors(*(call.node for call in record.backwards))
    sizes = {shape(n) for n in inputs & fed}
    causes = {n for n in beside & flow.random if n not in flow.data and n not in fed and not n.meta.get("grad")}
    for cause in flow.sorted(causes):
        if bench.batch_axis(cause) is None or not bench.is_real(cause):
            continue
        below = [
            n
            for n in flow.descendants(cause) - read - flow.data  # what is made of the data too is a reconstruction
            if shape(n) in sizes and any(_weights(m) for m in flow.ancestors(n, stop={cause}))
        ]
        if below:
            entry = min((n for n in layers if flow.ancestors(n) & inputs), key=flow.order.__getitem__)
            return _Unread(loss, cause, entry, max(below, key=flow.order.__getitem__))
    return None


def _weights(node: fx.Node) -> set[int]:
    return {id(i.meta.get("val")) for i in node.all_input_nodes if i.op == "get_attr" and i.meta.get("parameter")}


def _asleep(bench: Bench, unread: _Unread, gap: float) -> Broken:
    model = bench.model
    found = Found(
        entered(unread.entry, unread.loss) or model.where(unread.entry),
        label="is given the data, which know nothing of the draw that it is to tell",
        labels=model.labels(
            (unread.cause, "the draw that the loss wants from it"), (unread.dream, "made of that draw, and read by no loss")
        ),
        why="draw and data are independent: the network learns the average of the draws, and to leave its input out",
        help="recognise what was made of the draw (the dream), without a gradient",
    )
    text = f"the loss moves by {gap:.3g} where the draws change places, and what it holds them against does not depend on them"
    return Broken("dream-not-recognised", found, "a network learns to tell a draw from what was made of it", text)
