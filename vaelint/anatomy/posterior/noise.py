"""The unit of a site's noise, and what it is divided by: normal draws that are made of uniform ones have another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.record.walk import forward
from vaelint.replay.replay import Replay, ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.posterior.sites import Site

_UNIFORM = frozenset({"rand", "rand_like", "uniform"})
_LEAST_SHARE = 0.9  # of the draws that follow the quantile function: the rest was clamped away from its poles


def standard_deviation(eps: fx.Node, flow: Flow, replay: Replay, sizes: Mapping[str, int]) -> float:
    """The standard deviation of noise that is a normal draw made of a uniform one by the quantile function; 1 for all other noise.

    erfinv(2 u - 1) is such a draw, of standard deviation 1/sqrt(2): what it is multiplied with is not yet the posterior's scale. Noise
    that is drawn normal keeps the unit of its own: a constant in it is the rule's on noise to judge.
    """
    roots = flow.sorted(flow.ancestors(eps) & flow.random)
    if len(roots) != 1 or eps in roots or ops.op(roots[0]) not in _UNIFORM:
        return 1.0
    bounds = [a for a in (*roots[0].args[1:], *roots[0].kwargs.values()) if isinstance(a, (int, float)) and not isinstance(a, bool)]
    low, high = bounds if ops.op(roots[0]) == "uniform" and len(bounds) == 2 else (0.0, 1.0)
    try:
        got = replay([eps, roots[0]], {}, sizes, seed=5)
    except ReplayError:
        return 1.0
    noise, normal = got[eps], torch.special.ndtri((got[roots[0]] - low) / (high - low))
    if not isinstance(noise, torch.Tensor) or noise.numel() != normal.numel() or not noise.numel():
        return 1.0
    ratio = (noise.flatten() / normal.flatten()).double()
    middle = float(ratio.median())
    same = float(((ratio - middle).abs() <= 1e-6 * abs(middle)).double().mean())
    return abs(middle) if same >= _LEAST_SHARE else 1.0


def divides(site: Site, flow: Flow) -> bool:
    """Whether the noise is divided by the scale, as by the root of a precision: the standard deviation is one over it."""
    if site.scale is None or not site.noise:
        return False
    noisy = flow.descendants(*site.noise) & flow.ancestors(site.z)  # log q(z) divides by its scale further on
    met = [n for n in forward(site.scale, flow.users, ops.SHAPE | ops.CAST) if n in noisy and ops.op(n) in ops.DIV]
    return any(n.args[0] in noisy and n.args[1] not in noisy for n in met if len(n.args) > 1)
