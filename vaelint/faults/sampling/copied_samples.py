"""Importance samples that are copies of one draw: their weights are all equal, and the bound of K samples is that of one.

Source: Burda et al. 2016, Importance Weighted Autoencoders: log 1/K sum_k p(x, z_k) / q(z_k | x) over independent draws z_k.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.posterior.sites import Site, sample_axes
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_WEIGHS = frozenset({"logsumexp", "softmax", "log_softmax"})


def copied_samples(model: Model, site: Site) -> str | None:
    """The axis of the draw along which all are the same, and which weights are formed over; None where there is none. By drawing."""
    dims, sizes = model.dims(site.z), shape(site.z)
    axes = [a for a in sample_axes(site) if "B" not in dims[a]]
    for node in model.flow.sorted(model.reaching_loss) if axes else ():
        if ops.op(node) not in _WEIGHS or site.z not in model.flow.ancestors(node):
            continue
        over = _weighed_over(node)
        for axis in axes:
            if sizes[axis] == over and _alike(model, site.z, axis):
                return dims[axis]
    return None


def _weighed_over(node: fx.Node) -> int | None:
    """The size of the axis that weights are formed over."""
    axes, inner = ops.dims_of(node), ops.value_inputs(node)
    sizes = shape(inner[0]) if inner else ()
    return sizes[axes[0]] if axes and len(axes) == 1 and axes[0] < len(sizes) else None


def _alike(model: Model, z: fx.Node, axis: int) -> bool:
    try:
        drawn = model.replay([z], {}, dict(model.record.sizes), seed=1)[z]
    except ReplayError:
        return False
    if not isinstance(drawn, torch.Tensor) or drawn.dim() <= axis or drawn.shape[axis] < 2:
        return False
    return bool((drawn.diff(dim=axis) == 0).all()) and bool((drawn != 0).any())
