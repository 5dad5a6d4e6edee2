"""What the reconstruction term is: its target, its likelihood by the shape of its gradient, its weight per element."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import fx

from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.anatomy.posterior.sites import Site, sample_axes
from vaelint.core.reach import reachable
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.record.record import shape
from vaelint.record.walk import behind
from vaelint.replay.replay import NOT_ALONE, Replay, ReplayError, gradients


@dataclass
class Pair:
    """A reconstruction and what it is compared with, right where they meet."""

    leaf: Leaf
    recon: fx.Node
    target: fx.Node | None
    meet: fx.Node
    raw: tuple[fx.Node, ...]  # the decoder's raw outputs behind recon
    extra: tuple[fx.Node, ...] = ()  # further decoder outputs in the term: a variance


@dataclass
class ReconProbe:
    """What was measured. `weight` multiplies the negative log-likelihood of one element: (r - t)^2 for squared error, nats for the rest."""

    kernel: str
    weight: float = 0.0
    reason: str = ""
    axis: int | None = None  # the class axis of a categorical likelihood
    relative: bool = False  # its weight is one of several, those of the classes


def find_pairs(term: Term, flow: Flow, decoded: set[fx.Node], sites: Sequence[Site] = ()) -> list[Pair]:
    """Where each addend of the reconstruction term brings the reconstruction and its target together."""
    pairs: list[Pair] = []
    drawn = {shape(s.z)[d] for s in sites for d in sample_axes(s)}
    for leaf in term.leaves:
        raw = [f for f in leaf.frontier if f in decoded]
        data = [f for f in leaf.frontier if f not in raw and f in flow.data] + list(leaf.factors)
        if not raw or not data:
            continue
        others = flow.ancestors(*(other.node for other in term.leaves if other is not leaf), stop=set(raw))
        pair = _meet(leaf, raw, data, flow, others, drawn)
        if pair is not None:
            pairs.append(pair)
    return pairs


def _meet(leaf: Leaf, raw: list[fx.Node], data: list[fx.Node], flow: Flow, others: set[fx.Node], drawn: set[int]) -> Pair | None:
    """The last value made of decoder output alone, and the last made of data alone, before they mix.

    `others` are the values that the term's other addends are made of. Data of another shape that enters earlier (a library size, a
    condition) is part of the reconstruction. `drawn` are the sizes of axes along which z is drawn several times.
    """
    inside = flow.ancestors(leaf.node, stop={*raw, *data})
    sides = _sides(inside, raw, [d for d in data if d not in leaf.factors], flow, drawn)
    if not sides.meets:
        return _meet_on_the_way_up(leaf, raw, inside, flow, others)
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


def _meet_on_the_way_up(leaf: Leaf, raw: list[fx.Node], inside: set[fx.Node], flow: Flow, others: set[fx.Node]) -> Pair | None:
    """x * log(y): the product with the target is already a factor on the way up to the loss."""
    for link in reversed(leaf.chain):
        factor = next((f for f in ops.value_inputs(link) if f in leaf.factors), None) if ops.op(link) in ops.MUL else None
        if factor is not None and shape(factor) == shape(leaf.node):  # a factor of another shape is a weight, not a target
            recon = _narrowest(raw, {leaf.node}, inside, flow)
            shared = flow.sorted(inside & others & flow.descendants(recon))  # softplus(y) - x * y: another addend is made of y too
            return Pair(leaf, shared[-1] if shared else recon, factor, link, tuple(raw))
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


_ROUNDING = 1e-14  # what is left of a gradient that cancels
Family = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

FAMILIES: dict[str, Family] = {
    "squared_error": lambda r, t: 2 * (r - t),
    "absolute_error": lambda r, t: torch.sign(r - t),
    "bce": lambda r, t: (r - t) / (r * (1 - r)),
    "bce_with_logits": lambda r, t: torch.sigmoid(r) - t,
    "poisson": lambda r, t: 1 - t / r,
    "poisson_log": lambda r, t: r.exp() - t,
    "bce_swapped": lambda r, t: -torch.logit(t),
    "log_cosh": lambda r, t: torch.tanh(r - t),
    "cross_entropy_soft": lambda r, t: -t / r,
    "negative_log_probability": lambda r, t: -t,
}
"""dNLL/dr of each likelihood for a reconstruction r and a target t, element by element. For squared error the loss is (r - t)^2."""


def probe_recon(
    pair: Pair,
    term: Term,
    loss: fx.Node,
    replay: Replay,
    sizes: Mapping[str, int],
    shapes: Mapping[fx.Node, tuple[int, ...]],
    *,
    even: float = 0.0,
) -> ReconProbe:
    """Identifies the likelihood and its weight from d loss / d reconstruction at random values in (0, 1)."""
    try:
        r, t, g = recon_gradient(pair, term, loss, replay, sizes, shapes, even=even)
    except ReplayError:
        return ReconProbe("unknown", reason=NOT_ALONE)
    if g is None or float(g.abs().max()) < _ROUNDING:
        return ReconProbe("unknown", reason="no gradient reaches the reconstruction through this term")
    if g.is_complex() or (t is not None and t.is_complex()):
        return ReconProbe("other", _mean_size(g.abs()), reason="no likelihood of the list is one of complex values")
    if t is not None and not t.is_floating_point():
        lone = [d for d in range(t.dim()) if t.shape[d] == 1 != r.shape[d]] if t.dim() == r.dim() else []
        return _categorical(r, t.squeeze(lone[0]) if lone else t, g)
    if t is not None and t.dim() <= r.dim() and all(a in (1, b) for a, b in zip(t.shape[::-1], r.shape[::-1], strict=False)):
        t = t.expand_as(r)  # several draws are compared with one target
    if t is None or t.shape != r.shape:
        return ReconProbe("unknown", reason="the target has another shape")
    used = g != 0
    for name, family in FAMILIES.items():
        ratio = (g / family(r, t))[used]
        if ratio.numel() and float((ratio - ratio.median()).abs().max()) <= 1e-5 * float(ratio.abs().max()):
            return ReconProbe(name, float(ratio.median()))
    return (
        _weighted(r, t, g)
        or _softmax(r, t, g)
        or _by_class(r, t, g)
        or ReconProbe("other", _mean_size(g), reason="no likelihood of the list has this gradient")
    )


def recon_gradient(
    pair: Pair,
    term: Term,
    loss: fx.Node,
    replay: Replay,
    sizes: Mapping[str, int],
    shapes: Mapping[fx.Node, tuple[int, ...]],
    *,
    fill: tuple[float, float] | None = None,
    even: float = 0.0,
    apart: bool = True,
    shift: float = 0.0,
    extra: float = 0.5,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """(reconstruction, target, d loss / d reconstruction), the other terms of the loss silent.

    `shapes` gives the shapes of reconstruction, target and extras; `fill` sets them to constants instead of random values. With `apart`,
    other reconstructions in the same term are silent. `shift` moves the target away; `extra` is what further outputs are set to.
    """
    generator = torch.Generator().manual_seed(5)
    overrides: dict[fx.Node, Any] = dict(silence_others(term, replay, sizes))

    def values(node: fx.Node) -> torch.Tensor:
        return _values(pair, node, shapes.get(node) or replay.shape_of(node, sizes), fill, generator)

    r = values(pair.recon)
    if not r.is_floating_point():  # whole numbers have no gradient
        return r, None, None
    overrides[pair.recon] = r.requires_grad_().clone()
    t = None
    if pair.target is not None:
        t = values(pair.target)
        t = t + shift if t.is_floating_point() else t
        overrides[pair.target] = t.clone()
    for node in pair.extra:
        overrides[node] = torch.full(shapes.get(node) or replay.shape_of(node, sizes), extra, dtype=torch.float64)
    for leaf in term.leaves if apart else ():  # other reconstructions of the same term
        if leaf is not pair.leaf and pair.recon not in _above(leaf):
            overrides[leaf.node] = torch.zeros(replay.shape_of(leaf.node, sizes), dtype=torch.float64)
    out = replay([loss], overrides, sizes, even=even)[loss]
    if not isinstance(out, torch.Tensor) or not out.requires_grad:
        return r.detach(), t, None
    (g,) = gradients(out, [r])
    return r.detach(), t, g


def _values(pair: Pair, node: fx.Node, size: tuple[int, ...], fill: tuple[float, float] | None, generator: torch.Generator) -> torch.Tensor:
    """Values for reconstruction or target: labels where it holds whole numbers, else numbers in (0, 1); those of `fill` if given."""
    if not node.meta["val"].is_floating_point():
        top = max(2, _classes(pair))
        low = 1 if top > 2 else 0  # class 0 is the padding, where there is one
        labels = torch.ones(size) if fill else torch.randint(low, top, size, generator=generator)
        ignored = pair.meet.kwargs.get("ignore_index")
        if isinstance(ignored, int):
            labels = labels.masked_fill(labels == ignored, top - 1 if ignored != top - 1 else low)
        return labels.to(node.meta["val"].dtype)
    if fill:
        return torch.full(size, fill[0] if node is pair.recon else fill[1], dtype=torch.float64)
    return 0.1 + 0.8 * torch.rand(size, dtype=torch.float64, generator=generator)


def _above(leaf: Leaf) -> set[fx.Node]:
    return reachable([leaf.node], ops.value_inputs, stop=leaf.frontier)


def _classes(pair: Pair) -> int:
    """How many classes an integer target may have: the smallest axis of the reconstruction that the target lacks."""
    recon, target = list(shape(pair.recon)), list(shape(pair.target)) if pair.target is not None else []
    for n in target:
        if n in recon:
            recon.remove(n)
    return min(recon, default=2)


def _categorical(r: torch.Tensor, t: torch.Tensor, g: torch.Tensor) -> ReconProbe:
    for axis in range(r.dim()):
        if r.shape[:axis] + r.shape[axis + 1 :] != t.shape or int(t.max()) >= r.shape[axis]:
            continue
        onehot = torch.nn.functional.one_hot(t.long(), r.shape[axis]).movedim(-1, axis).double()
        for name, expected in (("cross_entropy", torch.softmax(r, axis) - onehot), ("nll", -onehot)):
            ratio = (g / torch.where(expected == 0, torch.nan, expected)).flatten()
            ratio = ratio[~ratio.isnan() & (ratio != 0)]
            if ratio.numel() and float((ratio - ratio.median()).abs().max()) <= 1e-5 * float(ratio.abs().max()):
                return ReconProbe(name, float(ratio.median()), axis=axis)
    return ReconProbe("other", _mean_size(g), reason="the gradient is not that of a categorical likelihood")


def _softmax(r: Float[torch.Tensor, "*shape"], t: Num[torch.Tensor, "*shape"], g: Float[torch.Tensor, "*shape"]) -> ReconProbe | None:
    """A soft target's cross-entropy: of logits, or of probabilities that are divided by their sum first, as Keras does it."""
    for axis in range(r.dim()):
        whole = t.sum(axis, keepdim=True)
        expected = {"cross_entropy": torch.softmax(r, axis) * whole - t, "cross_entropy_soft": whole / r.sum(axis, keepdim=True) - t / r}
        for name, gradient in expected.items():
            ratio = g / gradient
            if float((ratio - ratio.median()).abs().max()) <= 1e-5 * float(ratio.abs().max()):
                return ReconProbe(name, float(ratio.median()), axis=axis)
    return None


def _weighted(r: torch.Tensor, t: torch.Tensor, g: torch.Tensor) -> ReconProbe | None:
    """A likelihood weighted sample by sample, element by element or class by class: the ratio is constant along some axis."""
    if r.dim() < 2 or math.prod(r.shape[1:]) < 2:
        return None  # with one value a sample there is a weight for any gradient
    for name, family in FAMILIES.items():
        ratio = g / family(r, t)
        spread = (ratio - ratio.mean(dim=tuple(range(1, ratio.dim())), keepdim=True)).abs().max()
        if float(spread) <= 1e-5 * float(ratio.abs().max()):
            return ReconProbe(name, float(ratio.abs().mean() * ratio.mean().sign()), reason="weighted sample by sample")
    return None


def _by_class(r: Float[torch.Tensor, "*shape"], t: Num[torch.Tensor, "*shape"], g: Float[torch.Tensor, "*shape"]) -> ReconProbe | None:
    """A Bernoulli likelihood whose ones weigh more or less than its zeros, as `pos_weight` makes them; the weight is that of the zeros."""
    if not bool(g.isfinite().all()):
        return None
    zeros, ones = torch.zeros_like(r), torch.ones_like(r)
    for name in ("bce_with_logits", "bce"):
        columns = torch.stack([(1 - t) * FAMILIES[name](r, zeros), t * FAMILIES[name](r, ones)], -1).flatten(0, -2)
        weights = torch.linalg.lstsq(columns, g.flatten()).solution
        residual = float((columns @ weights - g.flatten()).abs().max())
        both = float(weights.prod()) > 1e-6 * float(weights.abs().max()) ** 2  # rounding leaves a part that is absent any sign
        if residual <= 1e-6 * float(g.abs().max()) and both and g.numel() > 4:
            return ReconProbe(name, float(weights[0]), reason="zeros and ones weigh differently", relative=True)
    return None


def _mean_size(g: Float[torch.Tensor, "..."]) -> float:
    return float(g.abs().mean())


def fits_family(gradient: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether a gradient is a positive multiple of a likelihood's, up to what a small constant inside a logarithm changes.

    One in complex numbers, as of a spectrum, is none of those that are known.
    """
    if gradient.is_complex() or expected.is_complex():
        return False
    weight = float((gradient * expected).sum() / (expected * expected).sum())
    return weight > 0 and float((gradient - weight * expected).abs().max()) <= 1e-3 * float(gradient.abs().max())
