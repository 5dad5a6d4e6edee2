"""The closed forms of KL(q || p) for location-scale posteriors: their gradients as two functions of location and scale.

For q with location m and scale s and a prior of scale r at 0, weighed by w,

    dKL/dm = (w / r') * along_mean(m, s)        dKL/dlog s = (w / r') * along_scale(m, s) - w

with r' = r^2 for Gaussians (Kingma & Welling 2014, appendix B) and r' = r for Laplace distributions, where
KL = |m|/r + (s/r) exp(-|m|/s) - 1 - log(s/r) (Gil et al. 2013, table 3).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from vaelint.anatomy.posterior.sites import Site
from vaelint.late import dataclass


@dataclass(frozen=True)
class Family:
    """A location-scale family: the gradients of its KL, and of minus its log-density."""

    name: str
    along_mean: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    along_scale: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    score: Callable[[torch.Tensor], torch.Tensor]  # -d log p(z) / dz of the standard member
    power: int  # the prior's scale enters to this power


GAUSSIAN = Family("Gaussian", lambda m, s: m, lambda m, s: s**2, lambda z: z, 2)
LAPLACE = Family(
    "Laplace",
    lambda m, s: m.sign() * (1 - (-m.abs() / s.abs()).exp()),
    lambda m, s: (m.abs() + s.abs()) * (-m.abs() / s.abs()).exp(),
    lambda z: z.sign(),
    1,
)


def family_of(site: Site) -> Family:
    """The family of a site's posterior."""
    return LAPLACE if site.kind == "laplace" else GAUSSIAN
