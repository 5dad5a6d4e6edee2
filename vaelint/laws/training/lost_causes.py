"""Law B2, for pairs that were drawn: what a network is to tell from its input has left a trace in that input.

Observed on the step as it runs, then an intervention: a loss holds what a network makes of decoded draws, and of no data, against another
draw, row by row, as it changes where the rows of that draw change places. The input is made of a second draw from the same distribution,
or the target of a distribution that is learned: either way the two are independent, and the network learns the average of the draws.
Exempt are targets that the input is made of somewhere (the noise of a diffusion, a code that is to be told from what it generated), or
that share a draw with it, draws from the prediction itself, noise on labels, which no learned distribution gives, distances between sets,
and all that is made of the data too.

Source: Hinton et al. 1995, The wake-sleep algorithm: in the sleep phase the recognition weights learn from dreamt pairs of cause and data.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.core.finding import Label, Span
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record.record import route, shape
from vaelint.rule import Found

_NOTHING = 1e-5


@dataclass(frozen=True)
class _Pair:
    """A loss, the draw that it holds against what a network makes of another one, that other draw, and whether they are drawn alike."""

    loss: fx.Node
    cause: fx.Node
    other: fx.Node
    twins: bool


@law(
    "causes-leave-a-trace",
    "a draw that a network learns to tell from other draws has had a part in what they became",
    covered=("VAE901", "VAE908", "VAE924"),
    cost="all",
)
def causes_leave_a_trace(bench: Bench) -> Iterator[Broken]:
    """Losses of the step that read draws and no data."""
    for loss in dict.fromkeys(o.loss for o in bench.model.record.objectives if o.loss is not None):
        pair = _pair(bench, loss)
        if pair is not None and (gap := _moved_by_order(bench, pair)) > _NOTHING:
            yield _lost(bench, pair, gap)
            return


def _pair(bench: Bench, loss: fx.Node) -> _Pair | None:
    flow, record = bench.model.flow, bench.model.record
    moved = set().union(*(call.moved for call in record.backwards))
    layers = {n for n in gradients_of(bench.model).reach(loss) if n.op == "call_function" and _weights([n]) & moved}
    fed = flow.ancestors(*layers) if layers else set()
    beside = flow.ancestors(loss, stop=layers) - layers
    given = [n for n in flow.sorted(fed & flow.random) if bench.is_real(n)]
    if not given or (fed | beside) & flow.data:
        return None
    for cause in flow.sorted(beside & flow.random):
        made_of = flow.ancestors(cause)
        if cause in fed or cause.meta.get("grad") or not bench.is_real(cause) or made_of & (layers | (fed & flow.random)):
            continue
        behind = _weights(made_of)
        decoded = [n for n in given if _is_decoded(bench, n, layers)]
        twin = next((n for n in decoded if _is_alike(bench, n, cause, behind)), None)
        if twin is not None or (behind and decoded):
            return _Pair(loss, cause, twin or decoded[0], twin is not None)
    return None


def _weights(nodes: list[fx.Node] | set[fx.Node]) -> set[int]:
    return {id(i.meta.get("val")) for n in nodes for i in n.all_input_nodes if i.op == "get_attr" and i.meta.get("parameter")}


def _is_decoded(bench: Bench, draw: fx.Node, layers: set[fx.Node]) -> bool:
    """Whether something with weights is made of a draw before it comes to the layers that learn from it."""
    flow = bench.model.flow
    below = flow.descendants(draw)
    return any(_weights([n]) for layer in layers & below for n in flow.ancestors(layer) & below - layers)


def _is_alike(bench: Bench, draw: fx.Node, cause: fx.Node, behind: set[int]) -> bool:
    """Whether two draws are of one distribution: made by one function, of one size, of the same weights."""
    same = draw.target == cause.target and shape(draw) == shape(cause)
    return same and _weights(bench.model.flow.ancestors(draw)) == behind


def _moved_by_order(bench: Bench, pair: _Pair) -> float:
    """How far the loss moves, of its own size, where the rows of the target change places."""
    run, axis = bench.trained_run, bench.batch_axis(pair.cause) or 0
    if not run.has(pair.cause) or not run.has(pair.loss):
        return 0.0
    value = run.value(pair.cause).detach()
    if value.dim() == 0 or torch.equal(value, value.flip(axis)):
        return 0.0
    same, turned = (run.recompute([pair.loss], {pair.cause: v})[pair.loss].detach() for v in (value.clone(), value.flip(axis)))
    return float((same - turned).abs().max()) / max(1.0, float(same.abs().max()))


def _parted(bench: Bench, pair: _Pair) -> tuple[Span | None, Span | None]:
    """Where the way to the other draw leaves that to the target, and the target's place there."""
    for other, cause in zip(*(reversed(route(n)) for n in (pair.other, pair.cause)), strict=False):
        if other != cause:
            return other, cause
    return bench.model.where(pair.other), None


def _lost(bench: Bench, pair: _Pair, gap: float) -> Broken:
    other, cause = _parted(bench, pair)
    told = ((cause, "the draw that the loss wants from it"), (bench.model.where(pair.loss), "holds the two against each other"))
    again = "drawn a second time, so that what is made of it knows nothing of the draw that it is to tell"
    found = Found(
        other or bench.model.where(pair.other),
        label=again if pair.twins else "another draw than the one that the network is to tell from what is made of it",
        labels=tuple(Label(place, text) for place, text in told if place is not None),
        why="the two draws are independent: the network learns the average of the draws, and to leave its input out",
        help="make what is recognised of the very draw that is the target",
    )
    text = f"the loss moves by {gap:.3g} of its size where the target's rows change places, and its input was made without the target"
    return Broken("dream-not-recognised", found, "a network learns to tell a draw from what was made of it", text)
