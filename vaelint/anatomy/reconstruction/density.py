"""A reconstruction term as a density of the data: its slope in the target, and in all that the decoder puts out, at one point.

A likelihood is told by how it moves with the *target* t: that holds however the decoder parameterises it, and where several of its
outputs (a mean, a variance, a dispersion, the weights of a mixture) enter. All elements are set to one value, so that each row of the
batch is one point of a curve.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import fx

from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.core.reach import reachable
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.record.record import shape
from vaelint.replay.replay import Replay, ReplayError, gradients

FILLS = (0.35, -0.45)
"""What the decoder's raw outputs are set to, in turn."""


_LARGEST = 4_000_000


@dataclass(frozen=True)
class DensitySlice:
    """The addends of one reconstruction, what they compare, and what else they are made of."""

    term: Term  # these addends alone
    loss: fx.Node
    replay: Replay
    target: fx.Node
    raw: tuple[fx.Node, ...]  # the decoder's outputs
    parameters: tuple[fx.Node, ...]  # learned numbers of the likelihood's own: a dispersion, a scale
    conditions: tuple[fx.Node, ...]  # data that are not compared: a library size


@dataclass(frozen=True)
class Curve:
    """At points t: d loss / d t of one element, and d loss / d (each decoder output and parameter) for one element."""

    t: torch.Tensor
    slope: torch.Tensor
    scores: tuple[torch.Tensor, ...]


def density_slice(term: Term, leaf: Leaf, loss: fx.Node, flow: Flow, replay: Replay) -> DensitySlice | None:
    """The reconstruction that an addend belongs to; None where what it is compared with cannot be told."""
    raw = {f for f in leaf.frontier if f in flow.learned}
    mine = [other for other in term.leaves if raw & set(other.frontier) or not _decoded(other, flow)]
    mine = _without_others(term, mine, raw, flow)
    found = _slice(term, mine, raw, loss, flow, replay)
    more = _of_the_same_data(mine, term, found.target, flow) if found is not None else mine
    return found if len(more) == len(mine) else _slice(term, more, raw, loss, flow, replay) or found


def _decoded(leaf: Leaf, flow: Flow) -> frozenset[fx.Node]:
    return frozenset(f for f in leaf.frontier if f in flow.learned)


def _without_others(term: Term, mine: list[Leaf], raw: set[fx.Node], flow: Flow) -> list[Leaf]:
    """Without the addends of a learned number alone, log s, that belong to other outputs of the decoder: of other steps, of another draw,
    of another kind of data.

    Those of a number that these outputs have too are as many for each output as there are outputs that the number serves, or a multiple,
    and come in the same order.
    """
    parameters = {
        leaf.node: {n for n in flow.ancestors(leaf.node, stop=set(leaf.frontier)) if n.meta.get("parameter")} for leaf in term.leaves
    }
    left = list(mine)
    for parameter in flow.sorted({p for leaf in mine if not _decoded(leaf, flow) for p in parameters[leaf.node]}):
        using = [leaf for leaf in term.leaves if parameter in parameters[leaf.node]]
        served = _apart([_decoded(leaf, flow) for leaf in using if _decoded(leaf, flow)])
        alone = [leaf for leaf in using if not _decoded(leaf, flow)]
        own = next((i for i, outputs in enumerate(served) if outputs & raw), None)
        if own is None and served:
            left = [leaf for leaf in left if leaf not in alone or len(parameters[leaf.node]) > 1]
        each, rest = divmod(len(alone), len(served)) if served else (0, 1)
        if own is not None and len(served) > 1 and each and not rest:
            others = alone[: own * each] + alone[(own + 1) * each :]
            left = [leaf for leaf in left if leaf not in others]
    return left


def _apart(outputs: list[frozenset[fx.Node]]) -> list[frozenset[fx.Node]]:
    """Sets of outputs, those that share one joined: rate and share of zeros, which some addend reads together, are of one step."""
    found: list[frozenset[fx.Node]] = []
    for new in outputs:
        at = next((i for i, old in enumerate(found) if old & new), len(found))
        joined = new.union(*(old for old in found if old & new))
        found = [*(old for old in found[:at] if not old & new), joined, *(old for old in found[at:] if not old & new)]
    return found


def _of_the_same_data(mine: list[Leaf], term: Term, target: fx.Node, flow: Flow) -> list[Leaf]:
    """With the addends that share an output of the decoder with these and are made of the same data: r log p beside x log(1 - p)."""
    beside = [leaf for leaf in term.leaves if leaf not in mine and target in flow.ancestors(leaf.node)]
    for _ in beside:
        outputs = {f for leaf in mine for f in leaf.frontier if f in flow.learned}
        joining = [leaf for leaf in beside if leaf not in mine and outputs & set(leaf.frontier)]
        if not joining:
            break
        mine = mine + joining
    return mine


def _slice(term: Term, mine: list[Leaf], raw: set[fx.Node], loss: fx.Node, flow: Flow, replay: Replay) -> DensitySlice | None:
    """These addends, what they compare, and what else they are made of."""
    ends = raw | {f for other in mine for f in other.frontier if f in flow.learned}
    chosen = _picked(ends | flow.ancestors(*(other.node for other in mine), stop=ends), replay)
    ends = chosen | {e for e in ends if not (flow.ancestors(e) - {e}) & chosen}  # what is made of one is no number of its own
    inside = flow.ancestors(*(other.node for other in mine), stop=ends)
    entries = _entries(mine, inside, ends, flow)
    if not entries:
        return None
    size = max(math.prod(shape(n)) for n in entries)
    compared = {n for n in entries if math.prod(shape(n)) == size}
    target = _common(compared, flow)
    if target is None or "B" not in replay.texts_of(target):
        return None
    parameters = tuple(n for n in flow.sorted(inside) if n.meta.get("parameter"))
    alone = replace(term, leaves=mine)
    return DensitySlice(alone, loss, replay, target, tuple(flow.sorted(ends)), parameters, tuple(flow.sorted(entries - compared)))


def joined_slice(term: Term, leaf: Leaf, loss: fx.Node, flow: Flow, replay: Replay) -> DensitySlice | None:
    """The same with all addends that share a decoder output through others, and no output that is made of another: a matrix of factors."""
    made_of = {other.node: flow.ancestors(*(f for f in other.frontier if f in flow.learned)) for other in term.leaves}
    mine, outputs = [leaf], {f for f in leaf.frontier if f in flow.learned}
    for _ in term.leaves:
        joining = [o for o in term.leaves if o not in mine and outputs & (made_of[o.node] | set(o.frontier))]
        mine += joining
        outputs |= {f for o in joining for f in o.frontier if f in flow.learned}
    found = density_slice(replace(term, leaves=mine), leaf, loss, flow, replay)
    if found is None:
        return None
    first = tuple(n for n in flow.sorted(outputs) if not (flow.ancestors(n) - {n}) & outputs)
    return replace(found, term=replace(term, leaves=mine), raw=first)


def _picked(inside: set[fx.Node], replay: Replay) -> set[fx.Node]:
    """Learned numbers of the likelihood that each sample takes a row of, `dispersion[batch]`: each sample has its own, as of an output."""
    found = set()
    for node in inside:
        source = ops.value_inputs(node)[:1] if ops.op(node) in ops.SELECT else []
        if source and source[0].meta.get("parameter") and "B" in replay.texts_of(node)[:1] and "B" not in replay.texts_of(source[0]):
            found.add(node)
    return found


def _entries(leaves: list[Leaf], inside: set[fx.Node], ends: set[fx.Node], flow: Flow) -> set[fx.Node]:
    """The values made of data alone that meet something learned."""
    given = {n for n in inside if n in flow.data and n not in flow.learned and isinstance(n.meta.get("val"), torch.Tensor)}
    met = {i for n in inside - given - ends for i in ops.value_inputs(n) if i in given}
    above = {f for leaf in leaves for f in leaf.factors if f not in flow.learned and shape(f) == shape(leaf.node)}
    return {_narrowest(_asked_of(n)) for n in met | above}


def _asked_of(node: fx.Node) -> fx.Node:
    """What a comparison asks of: which case of a likelihood an element is, as at the ends of a scale, is no further value of the data."""
    values = ops.value_inputs(node) if ops.op(node) in ops.COMPARE else []
    return values[0] if len(values) == 1 and shape(values[0]) == shape(node) else node


def _narrowest(node: fx.Node) -> fx.Node:
    """What a value is repeated from: a library size that is expanded to the data's shape is one number a sample."""
    source, size = node, math.prod(shape(node))
    while ops.op(source) in ops.SHAPE and (behind := ops.value_inputs(source)):
        source = behind[0]
    return source if math.prod(shape(source)) < size else node


def _common(compared: set[fx.Node], flow: Flow) -> fx.Node | None:
    """The last value of the data that all of these are made of, element by element; an axis of 1 more, beside a mixture's, is no other."""
    if len(compared) == 1:
        return next(iter(compared))
    shared = set.intersection(*(flow.ancestors(n) for n in compared))
    alike = [n for n in flow.sorted(shared) if all(_spread_out(n) == _spread_out(c) for c in compared)]
    return alike[-1] if alike else None


def _spread_out(node: fx.Node) -> list[int]:
    return [size for size in shape(node) if size != 1]


def curve(at: DensitySlice, sizes: Mapping[str, int], points: torch.Tensor, fill: float, *, apart: bool = False) -> Curve | None:
    """The curve over these points, with all of the decoder's numbers alike, or `apart`; None where its elements differ.

    Raises `ReplayError`.
    """
    generator = torch.Generator().manual_seed(11)
    rows = {**sizes, "B": points.numel()}
    if points.numel() * max(math.prod(at.replay.shape_of(n, {**sizes, "B": 1})) for n in (at.target, *at.raw)) > _LARGEST:
        raise ReplayError("too large to be laid out point by point")
    texts, size = at.replay.texts_of(at.target), at.replay.shape_of(at.target, rows)
    axis = texts.index("B")
    t = points.double().reshape([-1 if d == axis else 1 for d in range(len(size))]).expand(size).clone().requires_grad_()
    leaves = [t]
    overrides = dict(silence_others(at.term, at.replay, rows))
    for n in at.conditions:
        overrides[n] = torch.full(at.replay.shape_of(n, rows), 1.5, dtype=torch.float64)
    for i, n in enumerate((*at.raw, *at.parameters)):
        whole = at.replay.shape_of(n, rows)
        if n in at.parameters:
            whole = (rows["B"], *((1,) * (len(size) - 1 - len(whole))), *(whole[1:] if len(whole) == len(size) else whole))
            if len(whole) != len(size) or axis:
                raise ReplayError("a parameter of another rank than the data")
            if _is_added_up(at, n):
                raise ReplayError("a parameter that is added up has no row for each point")
        value = torch.full(whole, fill + 0.17 * i, dtype=torch.float64)
        if apart:
            rows_at = 0 if n in at.parameters else _rows_at(at, n)
            same = [1 if d == rows_at else k for d, k in enumerate(whole)]  # for each point the same
            value = value + torch.randn(same, dtype=torch.float64, generator=generator)
        leaves.append(value.requires_grad_())
        overrides[n] = leaves[-1].clone()
    overrides[at.target] = t.clone()
    out = at.replay([at.loss], overrides, rows)[at.loss]
    if not isinstance(out, torch.Tensor) or not out.requires_grad:
        return None
    got = gradients(out, leaves)
    if got[0] is None:
        return None
    slopes = got[0].movedim(axis, 0).reshape(points.numel(), -1)
    if not apart and float((slopes - slopes[:, :1]).abs().nan_to_num().max()) > 1e-7 * float(slopes.abs().nan_to_num().max() + 1e-300):
        return None
    return Curve(
        points.double(),
        slopes[:, 0],
        tuple(_of_rows(g, n, at, slopes.shape[1]) for g, n in zip(got[1:], (*at.raw, *at.parameters), strict=True)),
    )


def _is_added_up(at: DensitySlice, node: fx.Node) -> bool:
    """Whether a parameter is reduced before it meets the samples: laid out row by row it would be added up over all of them."""
    alone = reachable([node], lambda n: [u for u in n.users if "B" not in at.replay.texts_of(u)])
    return any(ops.op(n) in ops.REDUCE for n in alone)


def _rows_at(at: DensitySlice, node: fx.Node) -> int:
    """The axis of the batch."""
    texts = at.replay.texts_of(node)
    return texts.index("B") if "B" in texts else 0


def _of_rows(g: torch.Tensor | None, node: fx.Node, at: DensitySlice, elements: int) -> torch.Tensor:
    if g is None:
        return torch.zeros(1, dtype=torch.float64)
    axis = _rows_at(at, node)
    return g.movedim(axis, 0).reshape(g.shape[axis], -1).sum(1) / elements


def level(at: DensitySlice, sizes: Mapping[str, int], rows_: int, point: float, fill: float) -> float:
    """The loss, all elements of the target at one point, per element, with this many rows. Raises `ReplayError`."""
    rows = {**sizes, "B": rows_}
    overrides = dict(silence_others(at.term, at.replay, rows))
    for n in at.conditions:
        overrides[n] = torch.full(at.replay.shape_of(n, rows), 1.5, dtype=torch.float64)
    for i, n in enumerate((*at.raw, *at.parameters)):
        overrides[n] = torch.full(at.replay.shape_of(n, rows), fill + 0.17 * i, dtype=torch.float64)
    size = at.replay.shape_of(at.target, rows)
    overrides[at.target] = torch.full(size, point, dtype=torch.float64)
    return float(at.replay([at.loss], overrides, rows)[at.loss].sum()) / math.prod(size)
