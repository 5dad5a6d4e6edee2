"""What gradients at one value of the prior do not tell of a KL: its constant, and the sign with which the prior's mean enters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import fx

from vaelint.anatomy import ops
from vaelint.anatomy.kl_points import points_at
from vaelint.anatomy.kl_probe import KlProbe
from vaelint.anatomy.kl_slice import Slice, value_near
from vaelint.anatomy.readings import fit
from vaelint.anatomy.sites import Site
from vaelint.graph import shape

_FILLS = (0.3, 0.7)
_PLAIN = ops.SELECT | ops.SHAPE | ops.CAST


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
    while node not in sources and ops.op(node) in _PLAIN and ops.value_inputs(node):
        node = ops.value_inputs(node)[0]
    return node in sources
