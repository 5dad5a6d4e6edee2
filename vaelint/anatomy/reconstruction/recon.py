"""What the reconstruction term is: its likelihood by the shape of its gradient, and its weight per element."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import fx

from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.anatomy.reconstruction.pairs import Pair
from vaelint.core.reach import reachable
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import NOT_ALONE, Replay, ReplayError, gradients


@dataclass
class ReconProbe:
    """What was measured. `weight` multiplies the negative log-likelihood of one element: (r - t)^2 for squared error, nats for the rest."""

    kernel: str
    weight: float = 0.0
    reason: str = ""
    axis: int | None = None  # the class axis of a categorical likelihood
    relative: bool = False  # its weight is one of several, those of the classes


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
        found = _categorical(r, t.squeeze(lone[0]) if lone else t, g)
        is_cost = found.kernel == "nll" and found.weight < 0 and not _are_log_shares(pair.recon, found.axis or 0, replay, sizes)
        return ReconProbe("other", _mean_size(g), reason="the label picks from other values than log-probabilities") if is_cost else found
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


def _are_log_shares(node: fx.Node, axis: int, replay: Replay, sizes: Mapping[str, int]) -> bool:
    """Whether the exponentials of a value add up to one: log-probabilities, and not the costs of all classes."""
    try:
        value = replay([node], {}, sizes)[node].double()
    except ReplayError:
        return True
    return axis >= value.dim() or torch.allclose(value.exp().sum(axis), torch.ones((), dtype=torch.float64), atol=1e-4)


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
