"""The weight of a likelihood that its shape in the target does not show, and whether it is normalised.

For a density p the slope of -log p in any parameter has mean 0 under p itself. With p = exp(-f / w) / Z, f the measured term, this holds at
one w only: the weight of the term. A likelihood whose normaliser is wrong has no such w, or another than its shape says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from vaelint.anatomy.reconstruction.density import Curve, DensitySlice, curve
from vaelint.anatomy.reconstruction.density_fit import Shape

_AGREE = 1e-3


def nodes(shape: Shape) -> tuple[torch.Tensor, torch.Tensor]:
    """Points over the support of a density, and the weight of each in a sum that stands for its integral."""
    if shape.support == "ends":
        return torch.tensor([0.0, 1.0], dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    if shape.support == "unit":
        t = torch.linspace(0, 1, 65, dtype=torch.float64)
        simpson = torch.ones(65, dtype=torch.float64)
        simpson[1:-1:2], simpson[2:-1:2] = 4.0, 2.0
        return t, simpson / (3 * 64)
    if shape.support == "half":
        u = torch.linspace(-18, 18, 721, dtype=torch.float64)  # in units of 1 / slope, as the weight may be small or large
        t = u.exp() / shape.parameters["slope"]
        return t, t * (float(u[1]) - float(u[0]))
    if shape.support == "counts":
        t = torch.arange(0, 400, dtype=torch.float64)
        return t, torch.ones_like(t)
    u = torch.linspace(-14, 14, 361, dtype=torch.float64)  # from a thousandth of the shape's own width up: the weight may be small
    near = 1e-3 * shape.spread
    return shape.centre + near * u.sinh(), near * u.cosh()


def mean_score(shape: Shape, points: Curve, mass: torch.Tensor, w: float, score: torch.Tensor, jump: float = 0.0) -> float:
    """E[d f / d parameter] under exp(-f / w), in units of the score's own size; `jump` is how much lower f is at t = 0 than next to it."""
    f = shape.value(points.t) / w
    f = torch.where(points.t == 0, f - jump / w, f) if jump else f
    p = torch.softmax(torch.log(mass) - f, 0)
    return float((p * score).sum()) / (float((p * score.abs()).sum()) or 1.0)


def telling(curve_: Curve) -> list[torch.Tensor]:
    """The scores that are not constant 0, one for each decoder output or parameter."""
    return [s for s in curve_.scores if s.numel() == curve_.t.numel() and bool(s.isfinite().all()) and float(s.abs().max()) > 1e-9]


def weight_by_scores(at: DensitySlice, sizes: Mapping[str, int], shapes: Mapping[float, Shape]) -> float | None:
    """The one w at which all scores have mean 0, at every fill (the keys); None where there is none, or none of them depends on it."""
    found: list[float] = []
    for fill, shape in shapes.items():
        points, mass = nodes(shape)
        measured = curve(at, sizes, points, fill)
        if measured is None:
            return None
        roots = [w for score in telling(measured) if (w := _root(shape, measured, mass, score)) is not None]
        if not roots:
            return None
        found += roots
    middle = sorted(found)[len(found) // 2]
    return middle if all(abs(w - middle) <= _AGREE * middle for w in found) else None


def _root(shape: Shape, points: Curve, mass: torch.Tensor, score: torch.Tensor) -> float | None:
    """Where the mean of a score changes its sign over w; None where it never does, as for a location: its mean is 0 at every w."""
    ends = torch.tensor([shape.centre + shape.spread, shape.centre], dtype=torch.float64)
    unit = abs(float(shape.value(ends)[0] - shape.value(ends)[1])) or 1.0
    grid = [unit * 10 ** (-6 + 0.125 * i) for i in range(65)]
    means = [mean_score(shape, points, mass, w, score) for w in grid]
    if max(abs(m) for m in means) < 1e-6:
        return None
    for (low, a), (high, b) in zip(zip(grid, means, strict=True), zip(grid[1:], means[1:], strict=True), strict=False):
        if a * b < 0 and max(abs(a), abs(b)) > 1e-6:
            for _ in range(60):
                middle = math.sqrt(low * high)
                m = mean_score(shape, points, mass, middle, score)
                low, a, high = (middle, m, high) if a * m > 0 else (low, a, middle)
            return math.sqrt(low * high)
    return None
