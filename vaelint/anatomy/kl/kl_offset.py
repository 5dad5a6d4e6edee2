"""What gradients at one value of the prior do not tell of a KL: its constant, and the sign with which the prior's mean enters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import fx

from vaelint.anatomy.kl.kl_points import match, points_at
from vaelint.anatomy.kl.kl_probe import KlProbe
from vaelint.anatomy.kl.kl_slice import Slice, value_near
from vaelint.anatomy.kl.readings import fit
from vaelint.anatomy.kl.root import off, root
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.reach import reachable
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.record.walk import behind

_FILLS = (0.3, 0.7)
_HEADS = (-0.5, 0.0, 0.3, 0.7)
_PLAIN = ops.SELECT | ops.SHAPE | ops.CAST
_SUMS = _PLAIN | ops.ADD | ops.MUL | ops.DIV | ops.LINEAR_REDUCE | {"neg", "effect"}


def with_constant(probe: KlProbe, slice_: Slice, site: Site, sizes: Mapping[str, int]) -> KlProbe:
    """The probe with the constant that is lacking: the KL's 1/2 is counted once a latent dimension, not once a posterior or a batch.

    0 where the term is 0 at the prior, and where it is off by anything else: a constant that was left out on purpose has no such value.
    """
    if probe.verdict != "exact" or probe.capacity or probe.floor or slice_.others or slice_.draws:
        return probe
    value, scale = value_near(slice_, site, sizes, 1.0)
    if scale is None or not probe.weight:
        return probe
    size = slice_.replay.shape_of(site.z, sizes)
    count = sum(math.prod(slice_.replay.shape_of(s.z, sizes)) for s in slice_.sites)
    groups = {size[-1], math.prod(size) // max(1, sizes.get("B", 1)), count} if size else set()
    off = value / probe.weight
    once = any(abs(off - 0.5 * (count - count / n)) < 1e-6 * count for n in groups if n > 1)
    return replace(probe, constant=off / count) if once else probe


def mean_of_prior_is_added(slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float) -> bool:
    """Whether a KL to a learned prior has (m + m_p)^2: its least value is at minus what the prior's network gives."""
    if not slice_.others or len(site.mu_heads) != 1 or not _met_in_a_sum(slice_, site):
        return False
    for fill in _FILLS:
        points = points_at(slice_, site, sizes, spread, fill)
        if points is None:
            return False
        (a, a0), residual = fit(points.gm, [points.m, torch.ones_like(points.m)])
        if residual > 1e-6 or not a or abs(a0 / a - fill) > 1e-6:
            return False
    return True


def _met_in_a_sum(slice_: Slice, site: Site) -> bool:
    """Whether the posterior's mean and a part of what the prior's network gives are the two operands of a sum."""
    flow = slice_.flow
    mine, theirs = flow.descendants(*site.mu_heads), set(slice_.others)
    inside = flow.ancestors(*(leaf.node for leaf in slice_.term.leaves))
    for node in flow.sorted(mine & inside):
        if ops.op(node) in ("add", "iadd") and len(operands := ops.value_inputs(node)) == 2:
            given = [n for n in operands if _plainly_from(n, theirs)]
            if len(given) == 1 and any(n in mine and shape(n) == shape(node) for n in operands if n is not given[0]):
                return True
    return False


def _plainly_from(node: fx.Node, sources: set[fx.Node]) -> bool:
    """Whether a value is one of these, or a part of one."""
    return behind(node, _PLAIN, until=sources) in sources


def prior_is_off(slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float) -> bool:
    """Whether a KL to a learned prior still pulls at the prior where the posterior is equal to it: its parts read the prior differently.

    Mean and scale of the prior are those at which the slopes in the posterior vanish.
    """
    fill = _FILLS[0]
    points = points_at(slice_, site, sizes, spread, fill) if slice_.others and len(site.scale_heads) == 1 else None
    if points is None or any(_added_beside(slice_, n) for n in slice_.others):
        return False
    one = torch.ones_like(points.m)
    (a, a0), res_m = fit(points.gm, [points.m, one])
    (b, minus_c), res_t = fit(points.gt, [points.s**2, one])
    if max(res_m, res_t) > 1e-6 or a <= 0 or minus_c >= 0 or abs(a - b) > 1e-6 * a:
        return False
    mean, scale = -a0 / a, math.sqrt(-minus_c / a)
    at = heads_for(slice_, site, sizes, mean, scale)
    away = heads_for(slice_, site, sizes, mean + 1.0, 1.7 * scale)
    if at is None or away is None:
        return False
    priors = {n: torch.full(slice_.replay.shape_of(n, sizes), fill, dtype=torch.float64) for n in slice_.others}
    here, there = (slice_.gradients(sizes, {**heads, **priors}, fill) for heads in (at, away))
    for n in slice_.others:
        moved = (there[n] - here[n]).abs()
        own = moved > 1e-6 * float(moved.max() or 1.0)  # of a loop, the prior of this turn alone
        off = bool(own.any()) and float(moved.max()) > 1e-9 and float(here[n][own].abs().max()) > 1e-4 * float(moved.max())
        if off and not _only_weighs(slice_, site, sizes, {**at, **priors}, n):
            return True
    return False


def _only_weighs(slice_: Slice, site: Site, sizes: Mapping[str, int], at: Mapping[fx.Node, torch.Tensor], node: fx.Node) -> bool:
    """Whether a learned value moves no slope of the posterior where it lies at its prior: it is the weight of a KL, as a class's share."""
    here = slice_.gradients(sizes, dict(at))
    moved = slice_.gradients(
        sizes, {**at, node: at[node] + 0.3 * torch.arange(at[node].numel(), dtype=torch.float64).reshape(at[node].shape).sin()}
    )
    steep = max(float(g.abs().max()) for g in slice_.gradients(sizes, {**at, **{h: at[h] + 1.0 for h in site.heads}}).values() if g.numel())
    return all(float((moved[h] - here[h]).abs().max()) <= 1e-6 * steep for h in site.heads)


def beside_a_fixed_prior(slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float) -> bool:
    """Whether the posterior is held to a fixed prior as well as to learned ones: it then comes to rest between them.

    sum_i w_i KL(q || p_i) has the slope m * sum_i w_i / r_i^2 in the mean: w_0 + w_1 exp(-k h) where the learned log-scales are at h, and
    w_1 exp(-k h) without a fixed prior (Suzuki et al. 2016, eq. 5: KL to N(0, I), and to the posterior of each modality).
    """
    slopes: list[float] = []
    for fill in _HEADS if slice_.others and len(site.mu_heads) == 1 else ():
        points = points_at(slice_, site, sizes, spread, fill)
        if points is None:
            return False
        (a, _), residual = fit(points.gm, [points.m, torch.ones_like(points.m)])
        if residual > 1e-6:
            return False
        slopes.append(a)
    for k in (1.0, 2.0) if slopes else ():
        wave = torch.tensor([math.exp(-k * h) for h in _HEADS], dtype=torch.float64)
        (fixed, learned), residual = fit(torch.tensor(slopes, dtype=torch.float64), [torch.ones_like(wave), wave])
        if residual < 1e-6 and fixed > 1e-4 * learned > 0:
            return True
    return False


def _added_beside(slice_: Slice, prior: fx.Node) -> bool:
    """Whether a prior's output enters the loss beside this term too: its log-determinant, where no data are behind it."""
    leaves = {leaf.node for leaf in slice_.term.leaves}
    return slice_.loss in reachable([prior], lambda n: [u for u in slice_.flow.users.get(n, ()) if ops.op(u) in _SUMS], stop=leaves)


def heads_for(slice_: Slice, site: Site, sizes: Mapping[str, int], mean: float, scale: float) -> dict[fx.Node, torch.Tensor] | None:
    """Heads at which this posterior has a mean and scale, all others at 0; None where no value of the scale's head gives it."""
    low, high = -14.0, 14.0

    def at(h: float) -> dict[fx.Node, torch.Tensor]:
        value = {**dict.fromkeys(slice_.heads, 0.0), **dict.fromkeys(site.mu_heads, mean), **dict.fromkeys(site.scale_heads, h)}
        return {n: torch.full(slice_.replay.shape_of(n, sizes), v, dtype=torch.float64) for n, v in value.items()}

    def moments(h: float) -> tuple[float, float]:
        values = at(h)
        m, s = slice_.moments(site, sizes, values)
        like = match(m, values[site.mu_heads[0]])
        return (math.nan, math.nan) if s is None or like is None else (float(like.flatten()[0]), float(s.flatten()[0]))

    if not moments(low)[1] <= scale <= moments(high)[1]:
        return None
    found = root(lambda h: off(moments(h)[1], scale), low, high)
    return at(found) if abs(moments(found)[0] - mean) < 1e-6 * max(1.0, abs(mean)) else None
