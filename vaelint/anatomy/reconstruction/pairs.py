"""Where the reconstruction and its target meet: the last value made of decoder output alone, and the last made of data alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.anatomy.posterior.sites import Site, sample_axes
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.record.record import shape
from vaelint.record.walk import behind


@dataclass
class Pair:
    """A reconstruction and what it is compared with, right where they meet."""

    leaf: Leaf
    recon: fx.Node
    target: fx.Node | None
    meet: fx.Node
    raw: tuple[fx.Node, ...]  # the decoder's raw outputs behind recon
    extra: tuple[fx.Node, ...] = ()  # further decoder outputs in the term: a variance


def find_pairs(term: Term, flow: Flow, decoded: set[fx.Node], sites: Sequence[Site] = ()) -> list[Pair]:
    """Where each addend of the reconstruction term brings the reconstruction and its target together."""
    pairs: list[Pair] = []
    drawn = {shape(s.z)[d] for s in sites for d in sample_axes(s)}
    held = [leaf for leaf in term.leaves if any(f in flow.data and f not in decoded for f in leaf.frontier)]
    links = Counter(link for leaf in held for link in {*leaf.chain})
    for leaf in term.leaves:
        raw = [f for f in leaf.frontier if f in decoded]
        data = [f for f in leaf.frontier if f not in raw and f in flow.data] + list(leaf.factors)
        if not raw or not data:
            continue
        others = flow.ancestors(*(other.node for other in term.leaves if other is not leaf), stop=set(raw))
        own = any(leaf is other for other in held)
        shared = {link for link in leaf.chain if links[link] > own}
        pair = _meet(leaf, raw, data, flow, others, shared, drawn)
        if pair is not None:
            pairs.append(pair)
    return pairs


def _meet(
    leaf: Leaf, raw: list[fx.Node], data: list[fx.Node], flow: Flow, others: set[fx.Node], shared: set[fx.Node], drawn: set[int]
) -> Pair | None:
    """The last value made of decoder output alone, and the last made of data alone, before they mix.

    `others` are the values that the term's other addends are made of, `shared` what those with data become. Data of another shape that
    enters earlier (a library size, a condition) is part of the reconstruction. `drawn` are the sizes of axes along which z is drawn
    several times.
    """
    inside = flow.ancestors(leaf.node, stop={*raw, *data})
    sides = _sides(inside, raw, [d for d in data if d not in leaf.factors], flow, drawn)
    if not sides.meets:
        return _meet_on_the_way_up(leaf, raw, inside, flow, others, shared)
    first = sides.meets[0]
    operands = ops.tensors(first.args) + ops.tensors(dict(first.kwargs))
    recon_side = [n for n in operands if n in sides.ours]
    target_side = [n for n in operands if n in sides.theirs]
    recon = _before_normalising(recon_side[0]) if picks_class(first, flow) else recon_side[0]
    if ops.op(first) not in ops.LOSSES and len(sides.meets) > 1:
        whole = _narrowest(raw, set(sides.meets), inside & sides.ours, flow)
        recon = recon if any(ops.op(u) == "unbind" for u in flow.users.get(whole, ())) else whole  # mean and scale, taken apart
    extra = recon_side[1:]
    for node in flow.sorted(inside - {first}):  # a variance that joins after the meeting
        ins = ops.value_inputs(node)
        if node in sides.mixed and any(n in sides.mixed for n in ins):
            extra += [n for n in ins if n in sides.ours and n not in extra and recon not in flow.ancestors(n)]
    return Pair(leaf, recon, target_side[0] if target_side else None, first, tuple(raw), tuple(extra))


@dataclass(frozen=True)
class _Sides:
    """The values of an addend: made of decoder output alone, of data alone, where the two meet, and what is made of both."""

    ours: set[fx.Node]
    theirs: set[fx.Node]
    meets: list[fx.Node]
    mixed: set[fx.Node]


def _sides(inside: set[fx.Node], raw: list[fx.Node], data: list[fx.Node], flow: Flow, drawn: set[int]) -> _Sides:
    sides = _Sides(set(raw), set(data), [], set())
    given = set[fx.Node]()  # decoder output that has seen data already
    for node in flow.sorted(inside - sides.ours - sides.theirs):
        ins = ops.value_inputs(node)
        from_raw, from_data = [n for n in ins if n in sides.ours], [n for n in ins if n in sides.theirs]
        weighs = ops.op(node) in ops.MUL and bool(given & set(from_raw)) and all(n in flow.learned for n in from_data)
        if from_raw and from_data and not weighs and _compares(node, from_raw, from_data, flow, drawn):
            sides.meets.append(node)
            sides.mixed.add(node)
        elif any(n in sides.mixed for n in ins):
            sides.mixed.add(node)
        elif from_raw:
            sides.ours.add(node)
            given |= {node} if from_data or given & set(from_raw) else set()
        elif from_data:
            sides.theirs.add(node)
    return sides


def _compares(node: fx.Node, from_raw: list[fx.Node], from_data: list[fx.Node], flow: Flow, drawn: set[int]) -> bool:
    """Whether an operation holds decoder output and data against each other."""
    if ops.op(node) == "add" and all(n in flow.learned for n in from_data):
        return False  # a layer's answer to a condition, put into the decoder
    if isinstance(value := from_raw[0].meta.get("val"), torch.Tensor) and not (value.is_floating_point() or value.is_complex()):
        return False  # where a score is infinite and a count is 0
    if ops.op(node) in ("getitem", "masked_select") and all(_is_mask(n) for n in from_data):
        return False  # `out[target != -1]` picks what is compared
    if ops.op(node) in ops.LOSSES or _comparable(from_raw, from_data) or picks_class(node, flow):
        return True
    if ops.op(node) not in ("sub", "rsub"):
        return False
    return _is_repeated(from_raw[0], from_data[0], drawn) or _is_stacked(from_raw[0], from_data[0], flow)


def _is_mask(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype is torch.bool


def _comparable(recon: list[fx.Node], data: list[fx.Node]) -> bool:
    """Whether shapes say that these are compared with each other, as opposed to one conditioning the other."""
    r, t = shape(recon[0]), shape(data[0])
    if r == t or not r or not t:
        return r == t
    return math.prod(t) >= math.prod(r) or len([n for n in t if n != 1]) >= len([n for n in r if n != 1])


def picks_class(node: fx.Node, flow: Flow) -> bool:
    """Whether a node looks up, for each whole number of the data, the score of that class: `logp.gather(-1, labels)`."""
    if ops.op(node) not in ("gather", "take_along_dim"):
        return False
    index = next((a for a in (*node.args[1:], *node.kwargs.values()) if isinstance(a, fx.Node)), None)
    return index is not None and index not in flow.learned and not index.meta["val"].is_floating_point()


def _before_normalising(node: fx.Node) -> fx.Node:
    """The scores behind `scores - logsumexp(scores)`, as a categorical distribution normalises them; else the node itself."""
    inner = behind(node, ("expand", "clone", "contiguous"))
    parts = ops.value_inputs(inner) if ops.op(inner) == "sub" else []
    normalises = len(parts) == 2 and ops.op(parts[1]) == "logsumexp" and ops.value_inputs(parts[1])[:1] == parts[:1]
    return parts[0] if normalises and shape(parts[0]) == shape(node) else node


def _is_repeated(recon: fx.Node, data: fx.Node, drawn: set[int]) -> bool:
    """Whether a target without one of the reconstruction's axes is compared with each entry along it: several draws, one target."""
    r, t = shape(recon), shape(data)
    t = (1,) * (len(r) - len(t)) + t
    apart = [a for a, b in zip(r, t, strict=False) if a != b]
    return len(t) == len(r) and len(apart) == 1 and apart[0] in drawn and t.count(1) > r.count(1) and sum(n != 1 for n in t) >= 2


def _is_stacked(recon: fx.Node, data: fx.Node, flow: Flow) -> bool:
    """Whether a target is taken from each of several reconstructions that lie along axes in front of it, as those of several decoders."""
    r, t = shape(recon), shape(data)
    batch = [d for d, text in enumerate(flow.record.shapes.get(recon, ())) if "B" in text]
    return 2 <= len(t) < len(r) and r[-len(t) :] == t and bool(batch) and min(batch) >= len(r) - len(t)


def _meet_on_the_way_up(
    leaf: Leaf, raw: list[fx.Node], inside: set[fx.Node], flow: Flow, others: set[fx.Node], shared: set[fx.Node]
) -> Pair | None:
    """x * log(y): the product with the target is already a factor on the way up to the loss. One that addends share is a mask."""
    for link in (n for n in reversed(leaf.chain) if n not in shared):
        factor = next((f for f in ops.value_inputs(link) if f in leaf.factors), None) if ops.op(link) in ops.MUL else None
        if factor is not None and shape(factor) == shape(leaf.node):  # a factor of another shape is a weight, not a target
            recon = _narrowest(raw, {leaf.node}, inside, flow)
            made_of = flow.sorted(inside & others & flow.descendants(recon))  # softplus(y) - x * y: another addend is made of y too
            return Pair(leaf, made_of[-1] if made_of else recon, factor, link, tuple(raw))
    return None


def _narrowest(raw: list[fx.Node], ends: set[fx.Node], inside: set[fx.Node], flow: Flow) -> fx.Node:
    """The last node that all ways from the decoder's output pass before they part: `y` in x*log(y) + (1-x)*log(1-y)."""
    current = found = raw[0]
    while current not in ends:
        nexts = {u for u in flow.users.get(current, ()) if u in inside or u in ends}
        if len(nexts) != 1 or any(u in ends and ops.op(u) not in ops.SELECT | ops.SHAPE for u in nexts):
            break
        (current,) = nexts
        if isinstance(current.meta.get("val"), torch.Tensor):
            found = current
    return found
