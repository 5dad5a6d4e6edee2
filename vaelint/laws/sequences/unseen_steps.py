"""Law A8, for decoders that go step by step: what is decoded for a step has not seen that step but by its draw.

Intervention: all draws are held, and the data of one step move. What a loop decodes for that step may follow earlier steps, which a state
has read, and numbers that are known of the whole sequence, as its mean: these move with later steps as well. Where it follows its own step
and none that is decoded later, the state has read the step before it was decoded: the decoder is shown its target.

Exempt are models with a mask, which may hand through what is observed, and steps to which other noise comes than that of known draws.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.late import dataclass
from vaelint.laws.bench import Bench, Seat
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.rule import Found

_LEAST = 4  # steps of a sequence
_MOVED = 1e-4  # of the spread of what is decoded
_STILL = 1e-7
_FAR = 3  # spreads of the data that a step is moved by


@dataclass(frozen=True)
class _Step:
    """What a turn of the loop decodes, and which elements of an input it is compared with."""

    fact: ReconFact
    data: Seat
    own: torch.Tensor


@law(
    "steps-are-decoded-unseen",
    "with all draws held, the reconstruction of a step does not follow that step",
    covered=("VAE225", "VAE317"),
    cost="all",
)
def steps_are_decoded_unseen(bench: Bench) -> Iterator[Broken]:
    """Reconstructions that are compared with one step of an input each, in the order in which they are decoded."""
    draws = [s.z for s in bench.model.sites]
    if not draws or not all(map(bench.knows, draws)) or bench.of_kind("mask"):
        return
    steps = _steps(bench, draws)
    if len(steps) < _LEAST:
        return
    seen = [s for s in steps[1:-1] if _follows(bench, s, [s], draws)]
    if len(seen) < len(steps) - 2:
        return
    for at in (1, len(steps) // 2):
        if _follows(bench, steps[at], steps[at + 1 :], draws):
            return  # what is known of the whole sequence
    at = len(steps) // 2
    yield _read(bench, steps[at], steps[at - 1], draws)


def _steps(bench: Bench, draws: list[fx.Node]) -> list[_Step]:
    """The steps of one input, each compared with elements of its own; as they are decoded."""
    flow = bench.model.flow
    found = []
    for fact in sorted(bench.model.recons, key=lambda f: flow.order[f.pair.recon]):
        target = fact.pair.target
        noisy = flow.ancestors(fact.pair.recon, stop=set(draws)) & flow.random
        if target is None or noisy or not bench.knows(fact.pair.recon) or not bench.knows(target):
            continue
        way = flow.ancestors(target) | {target}
        data = [s for s in bench.of_kind("data") if s.node in way]
        selected = all(
            n is s.node or ops.op(n) in ops.SELECT | ops.SHAPE for s in data for n in way & (flow.descendants(s.node) | {s.node})
        )
        if len(data) != 1 or not selected or way & flow.learned or shape(target) != shape(fact.pair.recon):
            continue
        numbers = torch.arange(bench.value(data[0].node).numel()).view(shape(data[0].node))
        own = bench.after({data[0].node: numbers.to(bench.value(data[0].node).dtype)}, [target]).get(target)
        if own is not None and own.numel() < numbers.numel():
            found.append(_Step(fact, data[0], own.flatten().long()))
    apart = sum(s.own.numel() for s in found) == len({int(i) for s in found for i in s.own})
    return found if apart and len({s.data.node for s in found}) == 1 else []


def _follows(bench: Bench, step: _Step, moved: list[_Step], draws: list[fx.Node]) -> bool:
    """Whether what is decoded for one step moves with the data of some steps, the draws held."""
    recon, value = step.fact.pair.recon, bench.value(step.data.node)
    new = value.clone(memory_format=torch.contiguous_format)
    new.view(-1)[torch.cat([s.own for s in moved])] += _FAR * float(value.double().std()) or 1.0
    before = bench.value(recon).double()
    after = bench.after({step.data.node: new, **bench.same(draws)}, [recon])[recon].double()
    gap, spread = float((after - before).abs().max()), float(before.std()) or 1.0
    return gap > (_MOVED if moved == [step] else _STILL) * spread


def _moving(bench: Bench, step: _Step, nodes: list[fx.Node], draws: list[fx.Node]) -> set[fx.Node]:
    """Which values move with the data of a step, the draws held."""
    new = bench.value(step.data.node).clone(memory_format=torch.contiguous_format)
    new.view(-1)[step.own] += _FAR
    moved = bench.after({step.data.node: new, **bench.same(draws)}, nodes)
    return {n for n in nodes if n in moved and bench.is_real(n) and not torch.equal(moved[n], bench.value(n))}


def _read(bench: Bench, step: _Step, earlier: _Step, draws: list[fx.Node]) -> Broken:
    model, flow, pair = bench.model, bench.model.flow, step.fact.pair
    way = flow.ancestors(pair.recon, stop=set(draws)) & flow.descendants(step.data.node)
    behind = [n for n in flow.sorted(way & flow.learned) if bench.knows(n)]
    both = _moving(bench, step, behind, draws) & _moving(bench, earlier, behind, draws)
    state = next(iter(flow.sorted(both)), pair.recon)  # in which the step joins those before it
    found = Found(
        model.where(state),
        label="takes in the step that is decoded from it next",
        labels=model.labels((pair.recon, "decoded here, with the draw held"), (pair.meet, "compared with the same step here")),
        why="the decoder is shown its target past the draw: the latent has nothing to tell, and generation has no step to show it",
        help="decode a step from the state before it, and its draw; let the state take in the step afterwards",
    )
    return Broken("data-past-latent", found, "with all draws held, a step does not move its reconstruction", "it does, and no later one")
