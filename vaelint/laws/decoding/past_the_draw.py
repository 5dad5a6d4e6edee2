"""Law A4, for the decoder: what is decoded comes through the draw.

Intervention: all draws are held, and single elements of the data move. An element of the reconstruction that follows its own target past
the draw is copied: the latent has nothing to tell. The codes of a quantiser are held by their numbers, and the elements move by a visible
amount, as what passes straight through a code has the encoder's gradient and not its value. What many elements share, as a sum, a mean or
a spread that is known, leaves a response of low rank and is no copy; a decoder of steps or pixels in turn sees earlier elements and never
its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.anatomy.model import Model
from vaelint.core.finding import Span
from vaelint.core.reach import reachable
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench, Seat
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import route, shape
from vaelint.rule import Found

_PLACES = 8
_RANK = 3  # of the response of one half to the other: more than the numbers that all elements share
_NOTHING = 1e-4  # of the largest response
_FAR = 8  # spreads of the data that an element is moved by, so that a weak response stands out
_ROUNDED = 30  # roundings: a straight-through sum of a code differs by some where the encoder moves


@law(
    "decoded-through-the-draw",
    "with all draws and codes held, no element of the reconstruction follows its own target",
    covered=("VAE208", "VAE317"),
    cost="all",
)
def decoded_through_the_draw(bench: Bench) -> Iterator[Broken]:
    """Reconstructions of an input, element by element.

    Exempt: models with a mask, which may hand through what is observed; draws that no posterior is known of; a second reconstruction of
    data that a first one makes from the draws alone, as SOM-VAE (Fortuin et al. 2019, eq. 1) decodes the code and what was quantised.
    """
    model = bench.model
    draws = [s.z for s in model.sites if bench.knows(s.z)]
    codes = [c.index for c in model.codebooks if bench.knows(c.index)]
    if not (draws or codes) or len(draws) < len(model.sites) or len(codes) < len(model.codebooks) or bench.of_kind("mask"):
        return
    copied: list[tuple[ReconFact, Seat, list[fx.Node], int]] = []
    whole = set[fx.Node]()
    for fact in model.recons:
        data = _target(bench, fact)
        if data is None or not _all_noise_is_drawn(bench, fact, [*draws, *codes]):
            continue
        decoded = [*(_bent(bench, d, fact.pair.recon) for d in draws), *codes]
        rank = _rank(bench, fact, data, list(dict.fromkeys((*draws, *decoded))), moves=bool(codes))
        if rank is None:
            whole.add(data.node)
        else:
            copied.append((fact, data, decoded, rank))
    for fact, data, decoded, rank in copied:
        if data.node not in whole:
            yield _copied(bench, fact, data, decoded, rank, _met_past_codes(bench, fact, data, decoded) if codes else None)
            return


def _target(bench: Bench, fact: ReconFact) -> Seat | None:
    """The input that a reconstruction is held against as it is, element by element."""
    target, flow = fact.pair.target, bench.model.flow
    if target is None or not bench.knows(fact.pair.recon):
        return None
    behind = flow.ancestors(target) | {target}
    own = [s for s in bench.of_kind("data") if s.node in behind]
    plain = len(own) == 1 and not behind & flow.learned and not behind & flow.random
    return own[0] if plain and shape(own[0].node) == shape(fact.pair.recon) and own[0].axis == 0 else None


def _all_noise_is_drawn(bench: Bench, fact: ReconFact, draws: list[fx.Node]) -> bool:
    """Whether no noise comes to the reconstruction but by the draws of known posteriors: what is held is all that there is to hold."""
    flow = bench.model.flow
    return not flow.ancestors(fact.pair.recon, stop=set(draws)) & flow.random


def _rank(bench: Bench, fact: ReconFact, data: Seat, held: list[fx.Node], moves: bool) -> int | None:
    """In how many independent ways elements at the two ends of one sample follow the targets at the other end, where each follows its own;
    None where one does not, and where what they share explains it. With `moves` the elements are moved; else gradients are taken."""
    got = _moved(bench, fact, data, held) if moves else _slopes(bench, fact, data, held)
    if got is None:
        return None
    response, least = got
    if not bool(response.isfinite().all()):
        raise CannotMeasureError("the decoder's response is not finite")
    largest = float(response.abs().max())
    if largest <= least or bool((response.diagonal().abs() <= max(_NOTHING * largest, least)).any()):
        return None
    half = _PLACES // 2
    early, late = response[:half, half:], response[half:, :half]
    nothing = max(_NOTHING * largest, least)
    if float(early.abs().max()) <= nothing and float(late.abs().max()) <= nothing:
        return _PLACES  # each follows itself and its neighbours
    ranks = [int((v > max(_NOTHING * v[0], least)).sum()) for v in map(torch.linalg.svdvals, (early, late))]
    return int(min(ranks)) if min(ranks) >= _RANK else None


def _slopes(bench: Bench, fact: ReconFact, data: Seat, held: list[fx.Node]) -> tuple[torch.Tensor, float] | None:
    """d element / d target at a few places of the first sample, and what of it is rounding."""
    leaf = bench.value(data.node).clone().requires_grad_()
    out = bench.base.recompute([fact.pair.recon], {data.node: leaf * 1, **bench.same(held)})[fact.pair.recon]
    if not out.requires_grad or out.shape != leaf.shape or max(out.shape[1:]) < 2 * _PLACES:
        return None
    places = _ends(out[0])
    flat, rows = out[0].flatten(), []
    for place in places:
        (grad,) = bench.base.gradient(flat[place], [leaf])
        if grad is None:
            return None
        rows.append(grad[0].flatten()[places].double())
    return torch.stack(rows), 0.0


def _moved(bench: Bench, fact: ReconFact, data: Seat, held: list[fx.Node]) -> tuple[torch.Tensor, float] | None:
    """The same, as what each target's own move does to the elements, for a unit of it."""
    value, same = bench.value(data.node), bench.same(held)
    before = bench.after({data.node: value.clone(), **same}, [fact.pair.recon])[fact.pair.recon]
    if before.shape != value.shape or max(value.shape[1:]) < 2 * _PLACES:
        return None
    places, by = _ends(value[0]), _FAR * float(value.double().std()) or 1.0
    columns = []
    for place in places:
        new = value.clone(memory_format=torch.contiguous_format)
        new[0].view(-1)[place] += by
        after = bench.after({data.node: new, **same}, [fact.pair.recon])[fact.pair.recon]
        columns.append((after - before)[0].flatten()[places].double() / by)
    return torch.stack(columns, 1), _ROUNDED * torch.finfo(before.dtype).eps * float(before.abs().max()) / by


def _ends(sample: torch.Tensor) -> list[int]:
    """Places at both ends of a sample's longest axis, in the middle of the others, where they lie in its elements row behind row."""
    axis = max(range(sample.dim()), key=lambda d: sample.shape[d])
    numbers = torch.arange(sample.numel()).view(sample.shape).movedim(axis, 0)
    middle = sum(n // 2 * math.prod(numbers.shape[d + 2 :]) for d, n in enumerate(numbers.shape[1:]))
    line = numbers.reshape(len(numbers), -1)[:, middle].tolist()
    return [*line[: _PLACES // 2], *line[-_PLACES // 2 :]]


def _bent(bench: Bench, draw: fx.Node, recon: fx.Node) -> fx.Node:
    """What becomes of a draw before it is decoded, as a flow bends it: the last value of its shape that all ways to the reconstruction
    pass; the draw itself where there is none."""
    flow = bench.model.flow
    between = flow.descendants(draw) & flow.ancestors(recon) - {draw, recon}
    same = [n for n in flow.sorted(between) if shape(n) == shape(draw) and recon not in flow.descendants(draw, stop={n})]
    return next((n for n in reversed(same) if bench.knows(n)), draw)


def _met_past_codes(bench: Bench, fact: ReconFact, data: Seat, held: list[fx.Node]) -> fx.Node | None:
    """The first value below the codes that moves with the data although they are held: a straight-through sum does not."""
    flow = bench.model.flow
    below = [n for n in flow.sorted(flow.ancestors(fact.pair.recon) & flow.descendants(*held)) if bench.knows(n) and bench.is_real(n)]
    value, same = bench.value(data.node), bench.same(held)
    moved = value + _FAR * value.double().std().to(value.dtype)
    before, after = (bench.after({data.node: v, **same}, below) for v in (value, moved))
    moving = {n for n in below if n in after and before[n].shape == after[n].shape and _is_moved(before[n], after[n], moved)}
    ways = reachable([fact.pair.recon], lambda n: [i for i in n.all_input_nodes if i in moving])
    return next(iter(flow.sorted(ways & moving)), None)


def _is_moved(before: torch.Tensor, after: torch.Tensor, data: torch.Tensor) -> bool:
    """Whether two values differ by more than the rounding of a sum with what the data became."""
    size = max(float(before.abs().max()), float(data.abs().max()))
    return float((after - before).abs().max()) > _ROUNDED * torch.finfo(before.dtype).eps * size


def _where_both_are_known(model: Model, met: fx.Node, way: fx.Node, held: list[fx.Node]) -> Span | None:
    """The call that hands on what the codes are made of: the frame, of those behind `met`, in which that value was made."""
    flow = model.flow
    shared = flow.sorted((flow.ancestors(way) | {way}) & flow.ancestors(*held))
    here, there = met.meta["stack"], shared[-1].meta["stack"] if shared else ()
    return here[len(here) - len(there)] if 0 < len(there) < len(here) else None


def _left_out(model: Model, fact: ReconFact, way: fx.Node) -> bool:
    """Whether a draw of the size of what goes past the draws is decoded by nothing: that was handed on in its place."""
    flow, below = model.flow, model.flow.ancestors(fact.pair.recon)
    unread = [n for n in flow.order if n in flow.noisy and n not in flow.pure_noise and not n.users]
    draws = (*(s.z for s in (*model.sites, *model.idle_sites)), *unread)
    return any(shape(z) == shape(way) and z not in below for z in draws)


def _made_for_the_decoder(model: Model, way: fx.Node, draws: list[fx.Node]) -> Span | None:
    """Where what goes past the draw is computed, by layers whose results the codes are not made of: in the function that the two share."""
    flow = model.flow
    if any(ops.uses_parameter(n) for n in (flow.ancestors(way) | {way}) & flow.ancestors(*draws)):
        return None
    here, there = route(way), route(draws[0])
    shared = next((k for k, (a, b) in enumerate(zip(here[::-1], there[::-1], strict=False)) if a != b), min(len(here), len(there)))
    return here[len(here) - 1 - shared] if 0 < shared < len(here) else None


def _copied(bench: Bench, fact: ReconFact, data: Seat, draws: list[fx.Node], rank: int, past_codes: fx.Node | None) -> Broken:
    model, flow = bench.model, bench.model.flow
    below = flow.ancestors(fact.pair.recon) & flow.descendants(*draws)
    ways = flow.ancestors(fact.pair.recon, stop=set(draws))
    past = {n for n in ways if n in flow.data and n not in flow.descendants(*draws)}
    met = [past_codes] if past_codes else [n for n in flow.sorted(below) if any(i in past for i in n.all_input_nodes)]
    way = next((i for n in met[:1] for i in n.all_input_nodes if i in past), None)
    handed = _where_both_are_known(model, past_codes, way, draws) if past_codes and way is not None else None
    if handed is None and way is not None and past_codes is None:
        idle = _left_out(model, fact, way)
        handed = _where_both_are_known(model, met[0], way, draws) if idle else _made_for_the_decoder(model, way, draws)
    found = Found(
        handed or model.where(met[0] if met else fact.pair.recon),
        label=f"brings {data.name} to the decoder past the draw",
        labels=model.labels((way, "made of the data, and of no draw"), (fact.pair.meet, "held against the same elements here")),
        why="the reconstruction is copied: the KL costs, the latent tells nothing, and a sample from the prior has no data to copy from",
        help="decode from z alone (and from conditions that are also there when sampling); give the skip connections to the posterior",
    )
    text = f"with every draw and code held, {_PLACES} elements follow their own targets, in {rank} independent ways"
    return Broken("data-past-latent", found, "with every draw and code held, an element does not follow its target", text)
