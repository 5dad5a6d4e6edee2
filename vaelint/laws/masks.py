"""Law A3: what is absent is inert, for the encoder and for the loss alike.

Intervention: the data takes other values where a mask is 0, and where it is 1; once the posterior is looked at, once the loss with the
posterior held. A mask may mean "there" or "missing", but not the one for the encoder and the other for the loss. Of two masks, the loss
may not go by the one by which the encoder takes other data, where the encoder goes by the other: masks of two modalities, exchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import fx

from vaelint.experiment.trial import differ
from vaelint.late import dataclass
from vaelint.laws.bench import Bench, Seat
from vaelint.laws.law import Broken, law
from vaelint.record.record import shape
from vaelint.replay.ranges import declared_range
from vaelint.rule import Found

_NOTHING = 1e-6


@law("what-is-absent-is-inert", "encoder and loss leave the same places out", covered=("VAE312", "VAE322", "VAE323"))
def what_is_absent_is_inert(bench: Bench) -> Iterator[Broken]:
    """Masks that the encoder takes one way and the loss the other."""
    for mask in bench.of_kind("mask"):
        for data in bench.of_kind("data", "tokens"):
            for place in places(bench, mask, data):
                where_one, where_zero = Seen.at(bench, data, place), Seen.at(bench, data, ~place)
                if where_one.opposes(where_zero) or where_zero.opposes(where_one):
                    yield _turned(bench, mask, data, where_zero.posterior > _NOTHING)
                    return
    yield from _exchanged(bench)


def _exchanged(bench: Bench) -> Iterator[Broken]:
    """Data that the encoder leaves out by a mask of its own, and the loss by the mask of other data."""
    masks = [s for s in bench.of_kind("mask", "label", "data") if is_of_samples(bench, s)]
    kinds = [s for s in bench.of_kind("data", "tokens") if s not in masks]
    if len(masks) < 2 or len(kinds) < 2 or 2 ** len(masks) > bench.value(masks[0].node).numel():
        return
    bits = {s: torch.arange(bench.value(s.node).numel(), device=bench.value(s.node).device) // 2**i % 2 for i, s in enumerate(masks)}
    given = {s.node: bit.to(bench.value(s.node).dtype) for s, bit in bits.items()}  # every combination of the masks occurs
    absent = {(s, value): bits[s] == value for s in masks for value in (0, 1)}
    seen = {
        (*key, d): Seen.at(bench, d, place.view(-1, *[1] * (len(shape(d.node)) - 1)), given) for key, place in absent.items() for d in kinds
    }
    for data in kinds:
        own = [k for k in absent if seen[*k, data].draw <= _NOTHING]
        taken = [k for k in absent if seen[*k, data].loss <= _NOTHING]
        if len(own) != 1 or len(taken) != 1 or own[0][0] is taken[0][0]:
            continue
        if any(seen[*taken[0], other].draw <= _NOTHING for other in kinds if other is not data):
            yield _of_other(bench, own[0][0], taken[0][0], data)
            return


def is_of_samples(bench: Bench, seat: Seat) -> bool:
    """Whether an input says yes or no, once a sample; of real numbers only where it is declared so."""
    val = bench.value(seat.node)
    declared = not val.is_floating_point() or declared_range(bench.model, seat.node) == (0.0, 1.0)
    return declared and val.dim() == 1 and bool(((val == 0) | (val == 1)).all()) and bool((val == 0).any()) and bool((val == 1).any())


def places(bench: Bench, mask: Seat, data: Seat) -> Iterator[torch.Tensor]:
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
    draw: float
    loss: float

    @staticmethod
    def at(bench: Bench, data: Seat, place: torch.Tensor, given: Mapping[fx.Node, torch.Tensor] | None = None) -> Seen:
        """At places of the data, with other inputs as `given`."""
        val = bench.value(data.node)
        rolled = val.roll(1, data.axis)
        other = rolled + val.std() if val.is_floating_point() else rolled
        changed, same = ({**(given or {}), data.node: v} for v in (torch.where(place, other, val), val.clone()))
        heads = [h for s in bench.model.sites for h in s.heads if bench.knows(h)]
        held = bench.same({*heads, *(s.z for s in bench.model.sites if bench.knows(s.z))})
        loss = bench.base.loss_node
        draws = [s.z for s in bench.model.sites if bench.knows(s.z)]
        before, after = bench.after(same, [*heads, *draws]), bench.after(changed, [*heads, *draws])
        moved, drawn = (max((differ(before[n], after[n]) for n in ns if n in before and n in after), default=0.0) for ns in (heads, draws))
        direct = [bench.after({**c, **held}, [loss])[loss] for c in (same, changed)]
        return Seen(moved, drawn, differ(direct[0], direct[1]))

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


def _of_other(bench: Bench, own: Seat, taken: Seat, data: Seat) -> Broken:
    model, flow = bench.model, bench.model.flow
    behind = {f.pair.recon: flow.ancestors(f.pair.target) | {f.pair.target} for f in model.recons if f.pair.target is not None}
    errors = {n for recon, seen in behind.items() if data.node in seen for n in flow.descendants(recon)}
    meets = flow.sorted(errors & flow.descendants(taken.node, stop={s.z for s in model.sites}))  # not by way of the posterior
    found = Found(
        model.where(meets[0] if meets else taken.node),
        label=f"the loss counts {data.name} where {taken.name} says so",
        when=f"{own.name} and {taken.name} differ",
        why=f"the encoder takes {data.name} by {own.name}: the loss counts elements that are missing, and leaves out the present ones",
        help=f"weigh the error of {data.name} by {own.name}",
    )
    text = f"{own.name} decides whether {data.name} moves the posterior, {taken.name} whether it moves the loss"
    return Broken("mask-inverted", found, "encoder and loss leave the same places out", text)


def _reads_both(bench: Bench, node: fx.Node, mask: Seat) -> bool:
    flow = bench.model.flow
    return node in flow.descendants(mask.node) and any(n not in flow.descendants(mask.node) for n in node.all_input_nodes)
