"""Terms that hold a posterior to N(0, 1) and are no KL: a Wasserstein distance, a distance of moments.

Source: Dowson & Landau 1982, The Frechet distance between multivariate normal distributions: W2^2 = m^2 + (s - 1)^2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import fx

from vaelint.anatomy.kl.kl_offset import heads_for
from vaelint.anatomy.kl.kl_slice import Slice, value_near
from vaelint.anatomy.posterior.sites import Site

_NEAR = 1e-4
_NARROW = (2.0, 3.5, 5.0)  # -log s
_ALIKE = 0.1


def is_distance(slice_: Slice, site: Site, sizes: Mapping[str, int]) -> bool:
    """Whether a term is 0 and at rest where the posterior is N(0, 1), and pulls the mean and the scale there from either side."""
    if slice_.others or slice_.draws or len(site.mu_heads) != 1 or len(site.scale_heads) != 1:
        return False
    (mean,), (scale,) = site.mu_heads, site.scale_heads
    here = _slopes(slice_, site, sizes, 0.0, 1.0)
    narrow, wide = _slopes(slice_, site, sizes, 0.0, 0.6), _slopes(slice_, site, sizes, 0.0, 1.6)
    below, above = _slopes(slice_, site, sizes, -1.0, 1.0), _slopes(slice_, site, sizes, 1.0, 1.0)
    if here is None or narrow is None or wide is None or below is None or above is None:
        return False
    size = min(abs(s) for s in (narrow[scale], wide[scale], below[mean], above[mean]))
    pulls = narrow[scale] * wide[scale] < 0 and below[mean] < 0 < above[mean]
    value, known = value_near(slice_, site, sizes, 1.0)
    at_rest = max(abs(here[mean]), abs(here[scale])) < _NEAR * size and known is not None and abs(value) < _NEAR * size
    return pulls and at_rest and not _pays_by_logarithm(slice_, site, sizes)


def _pays_by_logarithm(slice_: Slice, site: Site, sizes: Mapping[str, int]) -> bool:
    """Whether a narrow posterior costs -log s, as in every KL: also in one that reads the scale's head as something else."""
    found = [value_near(slice_, site, sizes, math.exp(-k)) for k in _NARROW]
    if any(scale is None for _, scale in found):
        return True
    first, second, third = (value for value, _ in found)
    return abs((third - second) - (second - first)) <= _ALIKE * abs(third - second)


def _slopes(slice_: Slice, site: Site, sizes: Mapping[str, int], mean: float, scale: float) -> dict[fx.Node, float] | None:
    """The term's mean slope in each head, where the posterior has this mean and scale."""
    heads = heads_for(slice_, site, sizes, mean, scale)
    if heads is None:
        return None
    return {h: float(g.double().mean()) for h, g in slice_.gradients(sizes, heads).items()}
