"""A posterior that the loss holds against the prior while nothing is drawn from it: the decoder gets its mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.kl.readings import fit
from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.anatomy.posterior.sites import frontier
from vaelint.core.finding import Span
from vaelint.core.reach import reachable
from vaelint.faults.gradients.cuts import reconstruction_ends
from vaelint.faults.sampling.handed_back import handed_back
from vaelint.faults.sampling.renamed import renamed_argument
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.record.record import shape, span
from vaelint.record.walk import behind
from vaelint.replay.per_model import per_model
from vaelint.replay.replay import ReplayError, gradients

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_LEVELS = ((-5.0, 5.0), (0.05, 20.0))  # of what gives the scale: a logarithm, or the scale, variance or precision itself
_MOST = 24  # pairs of values that are tried
_SQUARE = frozenset({"pow", "square", "mul", "multiply"})


@dataclass(frozen=True)
class Undrawn:
    """The mean that is decoded, the scale that only the loss reads, and what reads the mean first on the way to the reconstruction."""

    mu: fx.Node
    scale: fx.Node
    reader: fx.Node
    ends: tuple[fx.Node, ...] = ()  # the outputs of the decoder that are compared


@per_model
def undrawn_posterior(model: Model) -> Undrawn | None:
    """Two values alike in shape, learned from the data: the loss squares the one and has the other both plain and exponentiated, as the
    KL of a Gaussian does; the reconstruction depends on the first and not on the second. None where a draw reaches the loss.
    """
    loss, flow = model.record.loss, model.flow
    drawn = flow.random & flow.ancestors(loss) if loss is not None else set()
    if loss is None or model.variational or any(not _only_masks(model, n) and not _only_data(model, n) for n in drawn):
        return None
    return _by_formula(model, loss) or _by_gradient(model, loss) or _by_own_density(model, loss)


def _only_data(model: Model, drawn: fx.Node) -> bool:
    """Whether data are drawn of data, as grey values are made black and white."""
    flow = model.flow
    return ops.op(drawn) == "bernoulli" and drawn in flow.data and drawn not in flow.learned


def _only_masks(model: Model, drawn: fx.Node) -> bool:
    """Whether a draw is only compared with numbers, as that of words to leave out is: no code."""
    users = model.flow.users
    read = reachable([drawn], lambda n: [u for u in users.get(n, ()) if ops.op(u) in ops.CAST | ops.SHAPE])
    met = [u for n in read for u in users.get(n, ()) if u not in read]
    return bool(met) and all(ops.op(u) in ops.COMPARE for u in met)


def undrawn_place(model: Model) -> Span | None:
    """Where its mean takes the place of a draw: in the function that should draw, else where it is renamed or first read."""
    found = undrawn_posterior(model)
    if found is None:
        return None
    return handed_back(model, found.mu, found.scale) or renamed_argument(model, found.reader) or span(found.reader)


def _by_formula(model: Model, loss: fx.Node) -> Undrawn | None:
    flow = model.flow
    ends = reconstruction_ends(model)
    decoded, below = flow.ancestors(*ends), flow.ancestors(loss)
    learned = [n for n in flow.sorted(below) if n in flow.learned and n in flow.data]
    squared = [a for n in learned if (a := _squared(n)) is not None and a in decoded]
    for node in learned:
        if ops.op(node) != "exp" or not isinstance(node.args[0], fx.Node) or node.args[0] in decoded:
            continue
        head = node.args[0]
        is_plain = any(ops.op(u) in ops.ADD and u in below for u in flow.users.get(head, ()))
        mu = next((a for a in squared if shape(a) == shape(head) and a is not head), None)
        if is_plain and mu is not None:
            reader = _reader(mu, decoded, flow)
            if reader is not None and mu not in ends:
                return Undrawn(mu, head, reader, tuple(ends))
    return None


def _by_gradient(model: Model, loss: fx.Node) -> Undrawn | None:
    """Whatever the formula: a term whose gradient is linear in what is decoded, and turns its sign with what is not."""
    flow = model.flow
    ends, leaves = _sides(model)
    if not leaves or not ends:
        return None
    raw = _values(model, leaves, ends)
    term, decoded = Term("other", leaves), flow.ancestors(*ends)
    means = [a for a in raw if a in decoded and a not in ends]
    beside = {a: flow.ancestors(*ends, stop={a}) for a in means}  # an expert's precision is in the mean of their product, too
    pairs = [(a, b) for a in means for b in raw if b is not a and b not in beside[a] and shape(a) == shape(b)]
    for mean, scale in pairs[:_MOST]:
        reader = _reader(mean, decoded, flow)
        try:
            if reader is not None and any(_holds(model, loss, term, raw, mean, scale, *levels) for levels in _LEVELS):
                return Undrawn(mean, scale, reader, tuple(ends))
        except ReplayError:
            continue
    return None


def _by_own_density(model: Model, loss: fx.Node) -> Undrawn | None:
    """A density of what is decoded, at its own mean: the one is taken from itself, and the scale has nothing to answer for."""
    flow, ends = model.flow, reconstruction_ends(model)
    decoded = flow.ancestors(*ends)
    for node in flow.sorted(flow.ancestors(loss)):
        sides = [behind(n, ops.SHAPE | ops.CAST) for n in node.args[:2] if isinstance(n, fx.Node)]
        mean = sides[0] if ops.op(node) == "sub" and len(sides) == 2 and sides[0] is sides[1] else None
        if mean is None or mean not in decoded or mean in ends or mean not in flow.learned or mean not in flow.data:
            continue
        density = [leaf.node for leaf in model.leaves if node in flow.ancestors(leaf.node) | {leaf.node}]
        beside = flow.ancestors(*density) - decoded - flow.descendants(node) - {node}
        scale = next((n for n in flow.sorted(beside & flow.learned & flow.data) if shape(n) == shape(mean)), None)
        if scale is not None and (reader := _reader(mean, decoded, flow)) is not None:
            return Undrawn(mean, scale, reader, tuple(ends))
    return None


def _sides(model: Model) -> tuple[list[fx.Node], list[Leaf]]:
    """The decoder's outputs that are compared with the data, and the addends that may be a KL: without a draw, only its target tells a
    likelihood from a penalty."""
    likelihoods = [r.pair for r in model.recons if r.pair.target is not None and r.probe.kernel not in ("unknown", "other")]
    ends = list(dict.fromkeys(p.recon for p in likelihoods)) or list(reconstruction_ends(model))
    compared = {p.leaf.node for p in likelihoods}
    leaves = [leaf for leaf in model.leaves if leaf.node not in compared and leaf.detached is None and leaf.role != "vq"]
    return ends, [leaf for leaf in leaves if not model.flow.ancestors(leaf.node) & set(ends)]


def _values(model: Model, leaves: list[Leaf], ends: list[fx.Node]) -> list[fx.Node]:
    """Values that may be the moments: those that the decoder and a term share, and the raw outputs that the terms read."""
    flow = model.flow
    raw = frontier([leaf.node for leaf in leaves], flow, through=ops.REDUCE | ops.JOIN | ops.COMPARE)
    raw = [n for n in raw if n in flow.learned and isinstance(n.meta.get("val"), torch.Tensor)]
    raw = [n for n in raw if not any(ops.op(a) == "grad" for a in flow.ancestors(n))]  # a penalty on the decoder's slopes
    return list(dict.fromkeys((*_parted(model, [leaf.node for leaf in leaves], ends), *raw)))


def _parted(model: Model, terms: list[fx.Node], ends: list[fx.Node]) -> list[fx.Node]:
    """Values from which one way leads to the decoder and another one to a term: moments that were computed of several heads."""
    flow = model.flow
    decoded, charged = flow.ancestors(*ends), flow.ancestors(*terms)
    both = [n for n in flow.sorted(decoded & charged) if n in flow.learned and n in flow.data and not ops.uses_parameter(n)]
    both = [n for n in both if isinstance(n.meta.get("val"), torch.Tensor)]
    return [n for n in both if any(u in charged and u not in decoded for u in flow.users.get(n, ()))]


def _holds(
    model: Model, loss: fx.Node, term: Term, raw: list[fx.Node], mean: fx.Node, scale: fx.Node, lowest: float, highest: float
) -> bool:
    """Whether d loss / d mean is linear in the mean, and d loss / d scale knows the scale alone and vanishes somewhere in between."""
    replay, sizes = model.replay, {**model.symbols, "B": 3}

    def slopes(m: torch.Tensor, s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        m, s = m.clone().requires_grad_(), s.clone().requires_grad_()
        still = {n: torch.full(replay.shape_of(n, sizes), 0.3, dtype=torch.float64) for n in raw}
        out = replay([loss], {**silence_others(term, replay, sizes), **still, mean: m.clone(), scale: s.clone()}, sizes)[loss]
        if not isinstance(out, torch.Tensor) or not out.requires_grad:
            return torch.zeros_like(m), torch.zeros_like(s)
        along_m, along_s = gradients(out, [m, s])
        return (torch.zeros_like(m) if along_m is None else along_m), (torch.zeros_like(s) if along_s is None else along_s)

    generator = torch.Generator().manual_seed(3)
    here, there = (3 * torch.randn(replay.shape_of(mean, sizes), dtype=torch.float64, generator=generator) for _ in range(2))
    low, high = (torch.full_like(here, level) for level in (lowest, highest))
    (along, narrow), (_, again), (_, wide) = slopes(here, low), slopes(there, low), slopes(here, high)
    (_, middle) = slopes(here, 0.5 * (low + high))
    used = along != 0
    if torch.allclose(narrow + wide, 2 * middle):  # a square of what it is: a penalty, no KL
        return False
    if int(used.sum()) < 6 or not torch.allclose(narrow, again) or not bool((narrow * wide)[used].lt(0).all()):
        return False
    (slope, _), residual = fit(along[used], [here[used], torch.ones_like(here[used])])
    return residual < 1e-6 and slope != 0


def _reader(mean: fx.Node, decoded: set[fx.Node], flow: Flow) -> fx.Node | None:
    """What reads the mean first on the way to the reconstruction; a distribution that only gives it a shape does not."""
    readers = flow.sorted({u for u in flow.users.get(mean, ()) if u in decoded})
    while readers and ops.op(readers[0]) in ("broadcast_tensors", "expand"):
        readers = flow.sorted({u for u in flow.users.get(readers[0], ()) if u in decoded})
    return readers[0] if readers else None


def _squared(node: fx.Node) -> fx.Node | None:
    """What a node squares."""
    name = ops.op(node)
    if name not in _SQUARE or not node.args or not isinstance(node.args[0], fx.Node):
        return None
    if name == "square" or (len(node.args) > 1 and (node.args[1] is node.args[0] or (name == "pow" and node.args[1] == 2))):
        return node.args[0]
    return None
