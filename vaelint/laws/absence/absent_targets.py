"""Law A3, for the likelihood: places whose data are absent are not counted.

Intervention: the data takes other values where a mask, or a length, says it is absent. Where neither the posterior nor the loss moves,
what stands there is a filling that the step put in. The decoder's outputs there must then have no gradient: they would be trained on it.
Where they alone have one, the mask is inverted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Set

import torch
import torch.nn.functional as F
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.anatomy.loss.terms import Leaf
from vaelint.anatomy.model import Model
from vaelint.laws.bench import Bench, Seat
from vaelint.laws.law import Broken, law
from vaelint.laws.masks import Seen, places
from vaelint.laws.sequences.lengths import axis_of, beyond
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.rule import Found

_NOTHING = 1e-6
_SHARE = 1e-3  # of the gradient at the other places


@law(
    "absent-places-pull-nothing", "the likelihood counts no place whose data are absent", covered=("VAE312", "VAE322", "VAE323"), cost="all"
)
def absent_places_pull_nothing(bench: Bench) -> Iterator[Broken]:
    """Masks that the encoder reads beside the data they are of, and lengths.

    Exempt: a mask that only cuts a figure out of its background, which is decoded with it, and one by which the likelihood has another
    formula there, as of values below a limit of detection.
    """
    for seat, data, absent in _absences(bench):
        if _has_its_own_formula(bench, seat):
            continue
        seen = Seen.at(bench, data, absent)
        if max(seen.posterior, seen.draw, seen.loss) > _NOTHING:
            continue  # what stands there is data
        for fact in bench.model.recons:
            share = _pull(bench, fact, fact.pair.recon, data, absent)
            if share is not None and share > _SHARE:
                yield _counted(bench, fact, seat, data, share) if share < math.inf else _inverted(bench, fact, seat, data)
                return
            for scale in _beside(bench, fact):
                share = _pull(bench, fact, scale, data, absent)
                if share is not None and _SHARE < share < math.inf:
                    yield _counted(bench, fact, seat, data, share, scale)
                    return


def _has_its_own_formula(bench: Bench, mask: Seat) -> bool:
    """Whether the mask chooses between two values of the decoder's: what is absent is censored, and counted as such."""
    flow = bench.model.flow
    made = flow.descendants(mask.node)
    chosen = [n for n in bench.model.reaching_loss & made if ops.op(n) == "where" and len(n.args) == 3]
    if any(isinstance(n.args[0], fx.Node) and n.args[0] in made and all(b in flow.learned for b in n.args[1:]) for n in chosen):
        return True
    flags = made - flow.learned | {mask.node}
    sums = [ops.value_inputs(n) for n in bench.model.reaching_loss & made if ops.op(n) in ops.ADD]
    told = [[_flags_of(n, flags, flow.learned) for n in parts] for parts in sums if len(parts) == 2]
    return any(all(both) and not set.intersection(*both) for both in told)


def _flags_of(node: fx.Node, flags: set[fx.Node], learned: Set[fx.Node]) -> set[fx.Node]:
    """The flags that a value of the decoder's is multiplied with: `c * log S`, which is added to `(1 - c) * log p`."""
    factors = ops.value_inputs(node) if ops.op(node) in ops.MUL else []
    return {n for n in factors if n in flags} if any(n in learned for n in factors) else set()


def _absences(bench: Bench) -> Iterator[tuple[Seat, Seat, torch.Tensor]]:
    """What says that data is absent, that data, and where, as it is in the run."""
    for data in bench.of_kind("data", "tokens"):
        for mask in bench.of_kind("mask"):
            if shape(mask.node) == shape(data.node) and _is_read_by_itself(bench, mask, data):
                for place in places(bench, mask, data):
                    yield mask, data, ~place
                    yield mask, data, place
        for lengths in bench.of_kind("lengths"):
            axis = axis_of(data, lengths)
            if axis is not None and data.axis == 0 and axis == 1:
                absent = beyond(bench, lengths, data, axis)
                absent = absent & F.pad(absent[:, :-1], (*[0] * (2 * (absent.dim() - 2)), 1, 0))  # an end mark may stand at the first
                if bool(absent.any()) and not bool(absent.all()):
                    yield lengths, data, absent


def _is_read_by_itself(bench: Bench, mask: Seat, data: Seat) -> bool:
    """Whether the posterior moves with the mask where the data is 0 whatever the mask is."""
    empty = {data.node: torch.zeros_like(bench.value(data.node))}
    heads = [h for s in bench.model.sites for h in s.heads if bench.knows(h)]
    on = bench.value(mask.node)
    before, after = (bench.after({**empty, mask.node: m}, heads) for m in (on.clone(), 1 - on if on.dtype is not torch.bool else ~on))
    return any(not torch.allclose(before[h], after[h]) for h in heads if h in before and h in after)


def _beside(bench: Bench, fact: ReconFact) -> list[fx.Node]:
    """What the decoder puts out for the same places beside its means: the logarithm of a spread may be counted where the error is not."""
    flow, recon = bench.model.flow, fact.pair.recon
    parts = flow.descendants(*fact.pair.raw, stop={recon}) & bench.model.reaching_loss - {recon}
    alike = {n for n in parts if ops.op(n) in ops.SELECT and shape(n) == shape(recon)} | {*fact.pair.extra}
    return flow.sorted(alike - flow.ancestors(recon))


def _pull(bench: Bench, fact: ReconFact, output: fx.Node, data: Seat, absent: torch.Tensor) -> float | None:
    """The largest gradient of one of the decoder's outputs at absent places over that at the others; None where places cannot be told
    apart, or where none has one."""
    if not bench.knows(output) or fact.pair.target is None or data.node not in bench.model.flow.ancestors(fact.pair.target):
        return None
    if bench.draws_order(fact.pair.target):
        return None  # the rows are others than those of the mask as it was handed over
    if bench.knows(fact.pair.target) and bench.value(fact.pair.target).numel() < absent[:, 1:].numel():
        return None  # one column of a table: as many classes as the table has columns are no columns
    out = bench.value_with_graph(output)
    laid = _laid(_in_order(bench, fact.pair.target, data, absent), out)
    if not laid or not out.requires_grad:
        return None
    (grad,) = bench.base.gradient(bench.base.loss, [out])
    if grad is None or not bool(grad.isfinite().all()):
        return None
    shares = [_share(grad, where) for where in laid]
    if any(share is None or share <= _SHARE for share in shares):
        return None  # laid along another axis of that length, nothing is pulled
    return max(s for s in shares if s is not None) if math.inf in shares else min(s for s in shares if s is not None)


def _share(grad: torch.Tensor, where: torch.Tensor) -> float | None:
    """The largest gradient at these places over that at the others."""
    there, elsewhere = (float(grad[w.expand(grad.shape)].abs().max()) for w in (where, ~where))
    if elsewhere > 0:
        return there / elsewhere
    return math.inf if there > 0 else None


def _in_order(bench: Bench, target: fx.Node, data: Seat, absent: torch.Tensor) -> torch.Tensor:
    """The absent places as (steps, samples) where the target has the data in that order: row behind row both look alike."""
    if absent.dim() != 2 or not bench.knows(target):
        return absent
    held, given = bench.value(target).flatten(), bench.value(data.node)
    if given.shape != absent.shape or held.numel() != given.numel():
        return absent
    own, turned = (float((held == order.flatten()).double().mean()) for order in (given, given.T))
    return absent.T if turned > own else absent


def _laid(absent: torch.Tensor, out: torch.Tensor) -> list[torch.Tensor]:
    """The places in the shape of the decoder's outputs, in each way that fits: with classes behind or between (as many classes as steps fit
    both ways), without the first step, or row behind row."""
    for marks in (absent, absent[:, 1:]):
        if not bool(marks.any()) or bool(marks.all()):
            continue
        laid = [marks] if out.shape == marks.shape else []
        if marks.dim() == 2 and out.dim() == 3 and out.shape[:2] == marks.shape:
            laid.append(marks.unsqueeze(2))
        if marks.dim() == 2 and out.dim() == 3 and (out.shape[0], out.shape[2]) == tuple(marks.shape):
            laid.append(marks.unsqueeze(1))
        if marks.dim() == 2 and out.dim() == 2 and out.shape[0] == marks.numel():
            laid.append(marks.reshape(-1, 1))
        if laid:
            return laid
    return []


def _counted(bench: Bench, fact: ReconFact, seat: Seat, data: Seat, share: float, scale: fx.Node | None = None) -> Broken:
    model = bench.model
    alone = next((leaf for leaf in fact.term.leaves if scale is not None and _holds(leaf, scale, fact, model)), None)
    found = Found(
        model.where(alone.chain[-1]) if alone is not None and alone.chain else model.where(fact.pair.meet),
        label=f"counts {'the spread' if scale is not None else data.name} where {seat.name} says that {data.name} is absent",
        labels=model.labels((_filled(bench, fact, data), "what is absent is filled here")),
        when=f"{seat.name} leaves something out",
        why=f"the decoder is trained to put out the filling there, and the KL is weighed against places that hold no data: {data.name} "
        "as it is there moves nothing",
        help="weigh the log-likelihood of each place with the mask before any sum or mean (reduction='none')",
    )
    text = f"the loss's gradient at absent places is {share:.2g} of that at the others, and no value there moves the loss"
    return Broken("absent-counted", found, "the decoder's outputs at absent places have no gradient", text)


def _holds(leaf: Leaf, scale: fx.Node, fact: ReconFact, model: Model) -> bool:
    """Whether an addend reads a spread, and does not compare it with the target."""
    read = model.flow.ancestors(leaf.node, stop=set(fact.pair.raw)) | {leaf.node}
    return scale in read and fact.pair.target not in read


def _inverted(bench: Bench, fact: ReconFact, seat: Seat, data: Seat) -> Broken:
    model, flow = bench.model, bench.model.flow
    past = {n for s in model.sites for n in (*s.heads, s.z)} | {fact.pair.recon, fact.pair.target or fact.pair.recon}
    errors = flow.descendants(fact.pair.meet)
    masked = flow.sorted(errors & flow.descendants(seat.node, stop=past) & model.reaching_loss)
    masked = [n for n in masked if any(i not in errors for i in flow.inputs[n])]
    found = Found(
        model.where(masked[0] if masked else fact.pair.meet),
        label=f"leaves {data.name} out where {seat.name} says that it is there",
        labels=model.labels((_filled(bench, fact, data), "what is absent is filled here")),
        when=f"{seat.name} leaves something out",
        why="the decoder is trained to put out the filling, and never held to a value that was observed",
        help="turn the condition round: count the error where the data are there",
    )
    text = "the decoder's outputs have a gradient at absent places and at no other"
    return Broken("mask-inverted", found, "the decoder's outputs at absent places have no gradient", text)


def _filled(bench: Bench, fact: ReconFact, data: Seat) -> fx.Node | None:
    """The target, where it is not the bare data."""
    return fact.pair.target if fact.pair.target is not data.node else None
