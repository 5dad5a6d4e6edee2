"""Law A11, for augmented data: the target is the sample as the network saw it, not as another draw has turned it.

Intervention: the step's slice up to the target runs with other draws. Prediction: where the target holds the elements of a sample in
an order that is drawn (flipped, rotated, shifted round), the reconstruction has seen that draw. What neither encoder nor decoder has seen
cannot be decoded: the best reconstruction is then the average over all orders.

Exempt are draws that reach the reconstruction by any way (one augmentation for both sides, a decoder that is told), targets that are the
same at each draw, and noise, crops and samples of other rows, whose elements are not the sample's own.

Source: Goodfellow et al. 2016, Deep Learning, section 7.4: a transformation of the input needs a target that fits it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_BATCH = 6
_SEEDS = range(4)
_SAME = 1e-9


@law(
    "targets-are-turned-as-seen",
    "an order of the data's elements that is drawn for the target is one that the network has seen",
    covered=("VAE306",),
    cost="replay",
)
def targets_are_turned_as_seen(bench: Bench) -> Iterator[Broken]:
    """Targets that move with a draw, in models whose reconstruction does not move with it."""
    flow, reasons = bench.model.flow, []
    for fact in bench.model.recons:
        target = fact.pair.target
        if target is None or target not in flow.noisy or not bench.is_real(target):
            continue
        drawn, seen = flow.ancestors(target) & flow.random, flow.ancestors(fact.pair.recon)
        if not drawn or drawn & seen:
            continue
        given = [n for n in flow.sorted(flow.ancestors(target)) if n.op == "placeholder" and bench.is_real(n) and n in seen]
        try:
            source = next((n for n in given if math.prod(shape(n)[1:]) == math.prod(shape(target)[1:]) and _turned(bench, target, n)), None)
        except ReplayError as error:
            reasons.append(message_of(error))
            continue
        if source is not None:
            yield _broken(bench, fact.pair.meet, target, source, drawn)
            return
    if reasons:
        raise CannotMeasureError(f"the target does not run by itself: {reasons[0]}")


def _turned(bench: Bench, target: fx.Node, source: fx.Node) -> bool:
    """Whether each sample's target has that sample's elements, in orders that differ between draws."""
    sizes, orders = {**bench.model.record.sizes, "B": _BATCH}, []
    for seed in _SEEDS:
        got = bench.model.replay([source, target], {}, sizes, seed=seed)
        rows, kept = got[target].double().flatten(1), got[source].double().flatten(1)
        if rows.shape != kept.shape or not bool((rows.sort(1).values - kept.sort(1).values).abs().max() < _SAME):
            return False
        orders.append((rows[:, :, None] == kept[:, None]).double().argmax(2) if rows.shape[1] <= 64 else (rows == kept).double())
    return any(not torch.equal(orders[0], other) for other in orders[1:])


def _broken(bench: Bench, meet: fx.Node, target: fx.Node, source: fx.Node, drawn: set[fx.Node]) -> Broken:
    model = bench.model
    name = str(source.meta["input"])
    found = Found(
        model.where(meet),
        label=f"held to {name} in an order that the network has not seen",
        labels=model.labels((target, "drawn again for the target"), (next(iter(model.flow.sorted(drawn))), "the draw")),
        why="the reconstruction cannot know how the target was turned: the best it can learn is the average over all ways",
        help="transform once, and give the result to the encoder and to the loss",
    )
    text = f"the elements of each sample of {name} change places from draw to draw, and no draw of these reaches the reconstruction"
    return Broken("wrong-target", found, "the draws behind the target reach the reconstruction", text)
