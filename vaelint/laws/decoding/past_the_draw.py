"""Law A4, for the decoder: what is decoded comes through the draw.

Intervention: all draws are held, and single elements of the data move. An element of the reconstruction that follows its own target past
the draw is copied: the latent has nothing to tell. What many elements share, as a sum, a mean or a spread that is known, leaves a response
of low rank and is no copy; a decoder of steps or pixels in turn sees earlier elements and never its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench, Seat
from vaelint.laws.law import Broken, law
from vaelint.record.record import shape
from vaelint.rule import Found

_PLACES = 8
_RANK = 3  # of the response of one half to the other: more than the numbers that all elements share
_NOTHING = 1e-4  # of the largest response


@law(
    "decoded-through-the-draw",
    "with all draws held, no element of the reconstruction follows its own target",
    covered=("VAE208", "VAE317"),
    cost="all",
)
def decoded_through_the_draw(bench: Bench) -> Iterator[Broken]:
    """Reconstructions of an input, element by element.

    Exempt: models with a mask, which may hand through what is observed; draws that no posterior is known of.
    """
    model = bench.model
    draws = [s.z for s in model.sites if bench.knows(s.z)]
    if not draws or len(draws) < len(model.sites) or bench.of_kind("mask"):
        return
    for fact in model.recons:
        data = _target(bench, fact)
        if data is None or not _all_noise_is_drawn(bench, fact, draws):
            continue
        decoded = [_bent(bench, d, fact.pair.recon) for d in draws]
        rank = _rank(bench, fact, data, list(dict.fromkeys((*draws, *decoded))))
        if rank is not None:
            yield _copied(bench, fact, data, decoded, rank)
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


def _rank(bench: Bench, fact: ReconFact, data: Seat, draws: list[fx.Node]) -> int | None:
    """In how many independent ways elements at the two ends of one sample follow the targets at the other end, where each follows its own;
    None where one does not, and where what they share explains it."""
    leaf = bench.value(data.node).clone().requires_grad_()
    held = bench.same(draws)
    out = bench.base.recompute([fact.pair.recon], {data.node: leaf * 1, **held})[fact.pair.recon]
    if not out.requires_grad or out.shape != leaf.shape or max(out.shape[1:]) < 2 * _PLACES:
        return None
    places = _ends(out[0])
    flat, rows = out[0].flatten(), []
    for place in places:
        (grad,) = bench.base.gradient(flat[place], [leaf])
        if grad is None:
            return None
        rows.append(grad[0].flatten()[places].double())
    response = torch.stack(rows)
    if not bool(response.isfinite().all()):
        raise CannotMeasureError("the decoder's response is not finite")
    largest = float(response.abs().max())
    if largest == 0 or bool((response.diagonal().abs() <= _NOTHING * largest).any()):
        return None
    half = _PLACES // 2
    early, late = response[:half, half:], response[half:, :half]
    if float(early.abs().max()) <= _NOTHING * largest and float(late.abs().max()) <= _NOTHING * largest:
        return _PLACES  # each follows itself and its neighbours
    ranks = [int((v > _NOTHING * v[0]).sum()) for v in map(torch.linalg.svdvals, (early, late))]
    return int(min(ranks)) if min(ranks) >= _RANK else None


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


def _copied(bench: Bench, fact: ReconFact, data: Seat, draws: list[fx.Node], rank: int) -> Broken:
    model, flow = bench.model, bench.model.flow
    below = flow.ancestors(fact.pair.recon) & flow.descendants(*draws)
    ways = flow.ancestors(fact.pair.recon, stop=set(draws))
    past = {n for n in ways if n in flow.data and n not in flow.descendants(*draws)}
    met = [n for n in flow.sorted(below) if any(i in past for i in n.all_input_nodes)]
    way = next((i for n in met[:1] for i in n.all_input_nodes if i in past), None)
    found = Found(
        model.where(met[0] if met else fact.pair.recon),
        label=f"brings {data.name} to the decoder past the draw",
        labels=model.labels((way, "made of the data, and of no draw"), (fact.pair.meet, "held against the same elements here")),
        why="the reconstruction is copied: the KL costs, the latent tells nothing, and a sample from the prior has no data to copy from",
        help="decode from z alone (and from conditions that are also there when sampling); give the skip connections to the posterior",
    )
    text = f"with every draw held, {_PLACES} elements follow their own targets, in {rank} independent ways"
    return Broken("data-past-latent", found, "with every draw held, an element does not follow its target", text)
