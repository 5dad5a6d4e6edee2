"""A Gaussian KL whose moments are no element-wise functions of the heads: full covariances, heads that are mixed.

For q = N(m, C) and p = N(0, I), KL = (|m|^2 + tr C - L - log det C) / 2. Mean and covariance are read off the sampler, z = m + A eps and
C = A A^T, as differentiable functions of all heads; the measured gradient is fitted to those of the three parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import fx

from vaelint.anatomy.kl.kl_slice import Slice
from vaelint.anatomy.kl.readings import fit
from vaelint.anatomy.posterior.noise import standard_deviation
from vaelint.anatomy.posterior.sites import Site
from vaelint.replay.replay import ReplayError, gradients

_LARGEST = 64
_LARGEST_PRIOR = 16  # dimensions of a prior whose covariance is not known: it has a number for each pair

Points = list[dict[fx.Node, torch.Tensor]]
Parts = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], list[torch.Tensor] | None]


def fit_whole(slice_: Slice, site: Site, sizes: Mapping[str, int], points: Points) -> list[float] | None:
    """Coefficients of |m|^2/2, m, tr C/2 and -log det C/2 in the term; None where it is no sum of these. Raises `ReplayError`."""
    return _fit(slice_, site, sizes, points, _alike)


def correlated_weight(slice_: Slice, site: Site, sizes: Mapping[str, int], points: Points) -> float | None:
    """The weight of a KL to N(n, P^-1) for any constant P and n, a Gaussian process among others.

    It is <P, C + m m^T> / 2 - <P n, m> - log det C / 2. None where the term is no such function. Raises `ReplayError`.
    """
    found = _fit(slice_, site, sizes, points, _correlated)
    return found[-1] if found is not None and found[-1] else None


def _fit(slice_: Slice, site: Site, sizes: Mapping[str, int], points: Points, parts_of: Parts) -> list[float] | None:
    measured: list[torch.Tensor] = []
    rows: list[list[torch.Tensor]] = []
    for seed, values in enumerate(points):
        grads = slice_.gradients(sizes, values, seed=seed)
        leaves = {h: v.clone().requires_grad_() for h, v in values.items()}
        moments = _moments(slice_, site, sizes, {h: v.clone() for h, v in leaves.items()})
        if moments is None or (parts := parts_of(*moments)) is None:
            return None
        measured.append(torch.cat([grads[h].flatten() for h in leaves]))
        rows.append([_slopes(part, list(leaves.values())) for part in parts])
    joined = [torch.cat(c) for c in zip(*rows, strict=True)]
    target = torch.cat(measured)
    if not bool(target.isfinite().all()) or not all(bool(c.isfinite().all()) for c in joined) or target.numel() < 2 * len(joined):
        return None
    if parts_of is _correlated:  # of a precision's factor the numbers lie far apart: each equation counts alike
        sizes_of_rows = torch.stack([target, *joined]).norm(dim=0).clamp_min(1e-300)
        target, joined = target / sizes_of_rows, [c / sizes_of_rows for c in joined]
    coefficients, residual = fit(target, joined)
    return coefficients if residual < 1e-6 else None


def _slopes(part: torch.Tensor, leaves: list[torch.Tensor]) -> torch.Tensor:
    slopes = gradients(part, leaves, retain=True)
    return torch.cat([torch.zeros_like(v).flatten() if g is None else g.flatten() for v, g in zip(leaves, slopes, strict=True)])


def _alike(m: torch.Tensor, covariance: torch.Tensor, logdet: torch.Tensor) -> list[torch.Tensor]:
    """|m|^2/2, sum m, tr C/2, -log det C/2, summed over the batch."""
    return [0.5 * (m * m).sum(), m.sum(), 0.5 * covariance.diagonal(dim1=-2, dim2=-1).sum(), -0.5 * logdet.sum()]


def _correlated(m: torch.Tensor, covariance: torch.Tensor, logdet: torch.Tensor) -> list[torch.Tensor] | None:
    """The entries of C + m m^T on and above the diagonal, those of m, and -log det C/2, summed over the batch."""
    n = m.shape[-1]
    if not 2 <= n <= _LARGEST_PRIOR:
        return None
    second = (covariance + m.unsqueeze(-1) * m.unsqueeze(-2)).reshape(-1, n, n).sum(0)
    return [*(second[i, j] for i in range(n) for j in range(i, n)), *m.reshape(-1, n).sum(0), -0.5 * logdet.sum()]


def _moments(
    slice_: Slice, site: Site, sizes: Mapping[str, int], values: Mapping[fx.Node, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """Mean and covariance of the drawn posterior, and the logarithm of its determinant."""
    units = {n: standard_deviation(n, slice_.flow, slice_.replay, sizes) for n in site.noise}
    shapes = {n: slice_.replay.shape_of(n, sizes) for n in site.noise}
    still = {n: torch.zeros(size, dtype=torch.float64) for n, size in shapes.items()}

    def z_at(noise: Mapping[fx.Node, torch.Tensor]) -> torch.Tensor:
        got = slice_.replay([site.z], {**values, **still, **noise}, sizes, attached=True)[site.z]
        assert isinstance(got, torch.Tensor)
        return got

    m = z_at({})
    if not m.dim() or not site.noise:
        return None
    covariance = torch.zeros(*m.shape, m.shape[-1], dtype=torch.float64)
    for node, size in shapes.items():
        axis = next((d for d in range(len(size) - 1, -1, -1) if size[d] > 1), len(size) - 1)  # a column vector has its elements before it
        if not size or size[axis] > _LARGEST:
            return None
        moved = []
        for i in range(size[axis]):
            unit = torch.zeros(size, dtype=torch.float64)
            unit.select(axis, i).fill_(units[node])
            moved.append(z_at({node: unit}) - m)
        root = torch.stack(moved, -1)
        covariance = covariance + root @ root.transpose(-1, -2)
    sign, logdet = torch.linalg.slogdet(covariance)
    if not bool((sign > 0).all()):
        raise ReplayError("the posterior's covariance is singular")
    return m, covariance, logdet
