"""Law A3: what is absent is inert, for the encoder and for the loss alike.

Intervention: the data takes other values where a mask is 0, and where it is 1; once the posterior is looked at, once the loss with the
posterior held. A mask may mean "there" or "missing", but not the one for the encoder and the other for the loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import fx

from vaelint.experiment.trial import differ
from vaelint.laws.bench import Bench, Seat
from vaelint.laws.law import Broken, law
from vaelint.record.record import shape
from vaelint.rule import Found

_NOTHING = 1e-6


@law("what-is-absent-is-inert", "encoder and loss leave the same places out", covered=("VAE312", "VAE322", "VAE323"))
def what_is_absent_is_inert(bench: Bench) -> Iterator[Broken]:
    """Masks that the encoder takes one way and the loss the other."""
    for mask in bench.of_kind("mask"):
        for data in bench.of_kind("data", "tokens"):
            for place in _places(bench, mask, data):
                where_one, where_zero = Seen.at(bench, data, place), Seen.at(bench, data, ~place)
                if where_one.opposes(where_zero) or where_zero.opposes(where_one):
                    yield _turned(bench, mask, data, where_zero.posterior > _NOTHING)
                    return


def _places(bench: Bench, mask: Seat, data: Seat) -> Iterator[torch.Tensor]:
    """Where the mask is 1, in the data's shape: place by place, or for each of its columns, one of which may speak of this input."""
    on, size = bench.value(mask.node) != 0, shape(data.node)
    if on.shape == size[: on.dim()]:
        found = [on]
    elif on.dim() == 2 and on.shape[0] == size[0]:
        found = list(on.unbind(1))
    else:
        found = []
    for place in found:
        if bool(place.any()) and not bool(place.all()):
            yield place.view(*place.shape, *[1] * (len(size) - place.dim())).expand(size)


@dataclass(frozen=True)
class Seen:
    """How far other values at some places of the data move the posterior, and the loss with the posterior held."""

    posterior: float
    loss: float

    @staticmethod
    def at(bench: Bench, data: Seat, place: torch.Tensor) -> Seen:
        val = bench.value(data.node)
        rolled = val.roll(1, data.axis)
        other = rolled + val.std() if val.is_floating_point() else rolled
        changed, same = {data.node: torch.where(place, other, val)}, {data.node: val.clone()}
        heads = [h for s in bench.model.sites for h in s.heads if bench.knows(h)]
        held = bench.same({*heads, *(s.z for s in bench.model.sites if bench.knows(s.z))})
        loss = bench.base.loss_node
        before, after = bench.after(same, heads), bench.after(changed, heads)
        moved = max((differ(before[h], after[h]) for h in heads if h in before and h in after), default=0.0)
        direct = [bench.after({**c, **held}, [loss])[loss] for c in (same, changed)]
        return Seen(moved, differ(direct[0], direct[1]))

    def opposes(self, other: Seen) -> bool:
        """Whether only the encoder looks here, and only the loss there."""
        return self.posterior > _NOTHING >= self.loss and other.loss > _NOTHING >= other.posterior


def _turned(bench: Bench, mask: Seat, data: Seat, zero_enters: bool) -> Broken:
    model, flow = bench.model, bench.model.flow
    heads = [h for s in model.sites for h in s.heads]
    meets = flow.sorted(flow.descendants(mask.node) & flow.descendants(data.node) & flow.ancestors(*heads))
    seen, counted = ("0", "1") if zero_enters else ("1", "0")
    found = Found(
        model.where(next((n for n in meets if _reads_both(bench, n, mask)), None) or (meets[0] if meets else mask.node)),
        label=f"the encoder takes {data.name} where {mask.name} is {seen}",
        when=f"{mask.name} has zeros and ones",
        why=f"the loss counts {data.name} where {mask.name} is {counted}: the posterior is computed from the missing elements, "
        "and the observed ones are decoded unseen",
        help="turn the condition round in one of the two places: ~mask, or 1 - mask",
    )
    text = f"{data.name} where {mask.name} is {seen} moves the posterior only, where it is {counted} the loss only"
    return Broken("mask-inverted", found, "encoder and loss leave the same places out", text)


def _reads_both(bench: Bench, node: fx.Node, mask: Seat) -> bool:
    flow = bench.model.flow
    return node in flow.descendants(mask.node) and any(n not in flow.descendants(mask.node) for n in node.all_input_nodes)
