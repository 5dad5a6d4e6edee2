"""Hand-written Gaussian log-densities of z: whether error and normaliser speak of one variance.

-log N(z; m, s^2) = (z - m)^2 / (2 s^2) + log s + const. As a function F of z, m and a head h that s is read from, weighed by w: F is
quadratic in z around m with curvature w / s^2, and dF/dh = w (1 - (z - m)^2 / s^2) dlog s/dh.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.kl.readings import fit
from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.logsums import log_sums
from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.core.reach import ends
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError, gradients

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_EXACT = 1e-6
_THROUGH = ops.POINTWISE | ops.SHAPE | ops.LINEAR_REDUCE | {"effect", "detach", "data"}

Reading = tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]
READINGS: dict[str, Reading] = {
    "log-variance": (lambda h: torch.exp(-h), lambda h: torch.full_like(h, 0.5)),
    "log-standard deviation": (lambda h: torch.exp(-2 * h), torch.ones_like),
    "standard deviation": (lambda h: h**-2, lambda h: 1 / h),
    "variance": (lambda h: 1 / h, lambda h: 0.5 / h),
}
"""How a head is read: 1/s^2 and dlog s/dh."""


@dataclass(frozen=True)
class FlawedDensity:
    """The expression that is no log-density, what is drawn, the mean and the head of its variance."""

    node: fx.Node
    z: fx.Node
    mean: fx.Node
    head: fx.Node
    reading: str
    normaliser: float | None  # how often log s is counted; None where the part in the head is of another form
    leaves: tuple[Leaf, ...]  # the addends of the loss that it is made of; empty: `node` itself is the density


@dataclass(frozen=True)
class _Density:
    """A function of z and its loose ends: one node, or the part of the loss that some addends make."""

    place: fx.Node
    z: fx.Node
    ends: tuple[fx.Node, ...]
    leaves: tuple[Leaf, ...] = ()  # empty: `place` itself is the function


def flawed_densities(model: Model) -> list[FlawedDensity]:
    """One for each place: components of mixtures, and the two halves of Monte Carlo KLs."""
    found: dict[object, FlawedDensity] = {}
    for density in [*_components(model), *_addends(model)]:
        try:
            flaw = _judge(model, density)
        except ReplayError:
            continue
        if flaw is not None:
            found.setdefault(model.where(flaw.node) or flaw.node, flaw)
    return list(found.values())


def _components(model: Model) -> list[_Density]:
    """Arguments of log-sum-exps: the densities of a mixture at z."""
    zs = {s.z for s in model.sites}
    found = []
    for log_sum in log_sums(model):
        ends = _loose_ends(model, log_sum.source, zs)
        drawn = [e for e in ends if e in zs]
        if len(drawn) == 1:
            found.append(_Density(log_sum.source, drawn[0], tuple(e for e in ends if e not in zs)))
    return found


def _addends(model: Model) -> list[_Density]:
    """The addends of the loss that see one z and the same two further values."""
    zs = {s.z for s in model.sites}
    groups: dict[tuple[fx.Node, frozenset[fx.Node]], list[Leaf]] = {}
    for term in model.terms:
        if term.role not in ("kl", "prior") or term.detached is not None:
            continue
        for leaf in term.leaves:
            drawn, rest = [f for f in leaf.frontier if f in zs], frozenset(f for f in leaf.frontier if f not in zs)
            if len(drawn) == 1 and len(rest) == 2:
                groups.setdefault((drawn[0], rest), []).append(leaf)
    return [
        _Density(min((leaf.node for leaf in leaves), key=model.flow.order.__getitem__), z, tuple(model.flow.sorted(rest)), tuple(leaves))
        for (z, rest), leaves in groups.items()
    ]


def _loose_ends(model: Model, node: fx.Node, zs: set[fx.Node]) -> list[fx.Node]:
    """What a value is made of by element-wise operations, changes of shape and sums: draws, outputs of layers, parameters."""
    moving = model.flow.learned | model.flow.noisy

    def sources(n: fx.Node) -> list[fx.Node] | None:
        made_of = ops.value_inputs(n)
        if ops.op(n) in ops.SELECT and made_of and made_of[0].op == "call_function" and _as_many(n, made_of[0]):
            made_of = made_of[:1]  # z[:, None]
        else:
            layer = ops.uses_parameter(n) and ops.op(n) not in ops.POINTWISE
            if n in zs or n.op != "call_function" or ops.op(n) not in _THROUGH or layer or any(ops.is_opaque(s) for s in made_of):
                return None
        return [s for s in made_of if s in moving]

    return model.flow.sorted(ends([node], sources) if node in moving else set())


def _as_many(one: fx.Node, other: fx.Node) -> bool:
    return math.prod(shape(one)) == math.prod(shape(other)) and shape(one) != shape(other)


@dataclass
class _Sample:
    """Values and slopes of one random point, element by element of the function."""

    z: torch.Tensor
    mean: torch.Tensor
    head: torch.Tensor
    along_z: torch.Tensor
    curvature: torch.Tensor
    along_head: torch.Tensor


def _judge(model: Model, density: _Density) -> FlawedDensity | None:
    if len(density.ends) != 2 or any(shape(e)[-1:] != shape(density.z)[-1:] for e in density.ends):
        return None
    for mean, head in (density.ends, density.ends[::-1]):
        samples = [_sample(model, density, mean, head, seed) for seed in (1, 2, 3)]
        if any(s is None for s in samples):
            continue
        s = _Sample(*(torch.cat([getattr(x, f) for x in samples]) for f in ("z", "mean", "head", "along_z", "curvature", "along_head")))
        if float((s.along_z - s.curvature * (s.z - s.mean)).norm()) > _EXACT * float(s.along_z.norm()):
            continue  # not quadratic around this mean
        for name, (precision, slope) in READINGS.items():
            p = precision(s.head)
            (w,), residual = fit(s.curvature, [p])
            if residual > _EXACT or w == 0:
                continue
            known = slope(s.head)
            (normaliser, error), residual = fit(s.along_head, [w * known, -w * known * p * (s.z - s.mean) ** 2])
            if residual > 1e-4:
                return FlawedDensity(density.place, density.z, mean, head, name, None, density.leaves)
            if abs(error - 1) < _EXACT and any(abs(normaliser - slip) < _EXACT for slip in (0.5, 2.0, -1.0)):
                return FlawedDensity(density.place, density.z, mean, head, name, normaliser, density.leaves)
            return None
    return None


def _sample(model: Model, density: _Density, mean: fx.Node, head: fx.Node, seed: int) -> _Sample | None:
    """The slopes of the function in one entry of z; means and heads that are the same for all entries are read in step with them."""
    sizes = dict(model.symbols)
    generator = torch.Generator().manual_seed(seed)
    leaves = {}
    for n in (density.z, mean, head):
        values = 0.3 + 1.2 * torch.rand(model.replay.shape_of(n, sizes), dtype=torch.float64, generator=generator)
        leaves[n] = values.requires_grad_()
    out = _value(model, density, {n: v.clone() for n, v in leaves.items()}, sizes)
    row = out.flatten()[0]  # one sample, and of a mixture one component; of a part of the loss, all
    (along_z,) = torch.autograd.grad(row, [leaves[density.z]], create_graph=True, allow_unused=True)
    if along_z is None or not along_z.requires_grad:
        return None
    (curvature,) = torch.autograd.grad(along_z.sum(), [leaves[density.z]], retain_graph=True, allow_unused=True)
    along_head, along_mean = gradients(row, [leaves[head], leaves[mean]], retain=True)
    if curvature is None or along_head is None or along_mean is None:
        return None
    picked = [_touched(t, g) for t, g in ((leaves[density.z], along_z), (leaves[mean], along_mean), (leaves[head], along_head))]
    count = picked[0][0].numel()
    if any(p[0].numel() != count for p in picked) or count == 0:
        return None
    (z, gz), (m, _), (h, gh) = picked
    return _Sample(z, m, h, gz, curvature.detach()[along_z.detach() != 0], gh)


def _touched(values: torch.Tensor, slopes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    used = slopes.detach() != 0
    return values.detach()[used], slopes.detach()[used]


def _value(model: Model, density: _Density, given: dict[fx.Node, torch.Tensor], sizes: dict[str, int]) -> torch.Tensor:
    loss = model.record.loss
    if not density.leaves or loss is None:
        out = model.replay([density.place], given, sizes)[density.place]
    else:
        quiet = silence_others(Term("kl", list(density.leaves)), model.replay, sizes)
        out = model.replay([loss], {**quiet, **given}, sizes)[loss].sum()
    if not isinstance(out, torch.Tensor) or not out.requires_grad or math.isnan(float(out.detach().flatten()[0])):
        raise ReplayError("not a differentiable function of z")
    return out
