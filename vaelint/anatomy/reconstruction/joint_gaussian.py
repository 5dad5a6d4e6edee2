"""A Gaussian likelihood whose dimensions may be correlated, by its curvature in the target.

For w (-log N(t; m, C)) the second derivative in t is w C^-1 whatever t is, and the least value over t is -w/2 log det C^-1 up to a
constant: how the least value moves with the log-determinant of the curvature gives the weight, however the covariance is made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float

from vaelint.anatomy.kl.readings import fit
from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.reconstruction.density import DensitySlice
from vaelint.replay.measuring import bases, measured
from vaelint.replay.replay import ReplayError, gradients
from vaelint.replay.scale import Scaling

_LARGEST = 64
_RUNS = 5
_TOLERANCE = 1e-6


def joint_gaussian(at: DensitySlice, symbols: Mapping[str, int]) -> tuple[Scaling, bool] | None:
    """The weight of minus the logarithm of the density, in nats, and whether dimensions are correlated; None where it is none."""
    for base in bases(symbols):
        try:
            if not _weight(at, 0.0, base):
                return None
            first = _least(at, base, 0.0, 0)
        except ReplayError:
            continue
        scaling = measured(partial(_weight, at), symbols, at.replay)
        return (scaling, first.correlated) if scaling is not None and first is not None else None
    return None


def _weight(at: DensitySlice, even: float, sizes: Mapping[str, int]) -> float:
    """How the least value falls with log det H / 2, over random outputs of the decoder; 0 where it does not by one number."""
    least, bent = [], []
    for seed in range(_RUNS):
        found = _least(at, sizes, even, seed)
        if found is None:
            return 0.0
        least.append(found.least)
        bent.append(found.bent)
    rise = torch.tensor(bent, dtype=torch.float64)
    if float(rise.max() - rise.min()) < 1e-3:
        return 0.0  # the covariance is fixed: its weight cannot be told from its size
    (w, _), residual = fit(torch.tensor(least, dtype=torch.float64), [-0.5 * rise, torch.ones_like(rise)])
    return w if residual < _TOLERANCE and w > 0 else 0.0


class _Bowl(NamedTuple):
    """The least value over the target, the sum of log det H over the batch, and whether H has anything beside its diagonal."""

    least: float
    bent: float
    correlated: bool


def _least(at: DensitySlice, sizes: Mapping[str, int], even: float, seed: int) -> _Bowl | None:
    """The lowest point over the target; None where the term is not quadratic in the target."""
    size = at.replay.shape_of(at.target, sizes)
    rows, elements = size[0], math.prod(size[1:])
    if at.replay.texts_of(at.target)[:1] != ("B",) or not 2 <= elements <= _LARGEST:
        return None
    generator = torch.Generator().manual_seed(70 + seed)
    fixed = dict(silence_others(at.term, at.replay, sizes))
    for n in at.conditions:
        fixed[n] = torch.full(at.replay.shape_of(n, sizes), 1.5, dtype=torch.float64)
    for n in at.raw:
        fixed[n] = 0.7 * torch.randn(at.replay.shape_of(n, sizes), dtype=torch.float64, generator=generator)

    def at_target(t: Float[torch.Tensor, "rows elements"]) -> tuple[float, torch.Tensor]:
        leaf = t.reshape(size).requires_grad_()
        out = at.replay([at.loss], {**fixed, at.target: leaf.clone()}, sizes, even=even)[at.loss]
        (g,) = gradients(out, [leaf]) if out.requires_grad else (None,)
        if g is None:
            raise ReplayError("the likelihood does not depend on its target")
        return float(out.detach().sum()), g.reshape(rows, elements)

    origin = torch.zeros(rows, elements, dtype=torch.float64)
    pull = at_target(origin)[1]
    point = torch.randn(rows, elements, dtype=torch.float64, generator=generator)
    once, twice = at_target(point)[1] - pull, at_target(2 * point)[1] - pull
    if float((twice - 2 * once).abs().max()) > _TOLERANCE * float(twice.abs().max()):
        return None
    unit = torch.eye(elements, dtype=torch.float64)
    curvature = torch.stack([at_target(unit[i].expand(rows, elements).clone())[1] - pull for i in range(elements)], -1)
    off = float((once - (curvature @ point.unsqueeze(-1)).squeeze(-1)).abs().max())
    sign, logdet = torch.linalg.slogdet(curvature)
    if off > _TOLERANCE * float(once.abs().max()) or not bool((sign > 0).all()):
        return None
    best = -torch.linalg.solve(curvature, pull)
    beside = curvature - torch.diag_embed(curvature.diagonal(dim1=-2, dim2=-1))
    correlated = float(beside.abs().max()) > _TOLERANCE * float(curvature.abs().max())
    return _Bowl(at_target(best)[0], float(logdet.sum()), correlated)
