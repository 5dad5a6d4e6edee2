"""How the sampler reads the encoder's head: as a log-variance, a log-standard deviation, a standard deviation, a variance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from vaelint.anatomy.posterior.sites import Site
from vaelint.late import dataclass
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.replay.traced import Traced


@dataclass(frozen=True)
class Parameterisation:
    """`name`, and the range of scales that the head can express."""

    name: str
    lowest: float = 0.0
    highest: float = float("inf")
    negative: bool = False


_READINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "logvar": lambda h: (h / 2).exp(),
    "log-std": lambda h: h.exp(),
    "std (softplus)": lambda h: torch.nn.functional.softplus(h),
    "std": lambda h: h,
    "variance": lambda h: h.clamp(min=1e-12).sqrt(),
}


def scale_curve(model: Traced, site: Site, grid: torch.Tensor) -> torch.Tensor | None:
    """The sampler's scale as a function of one head's value, all else constant; None where it is not such a function."""
    if site.scale is None or len(site.scale_heads) != 1:
        return None
    values = []
    sizes = {**model.symbols, "B": 1}
    for h in grid:
        try:
            heads = {n: torch.full(model.replay.shape_of(n, sizes), 0.0, dtype=torch.float64) for n in site.heads}
            heads[site.scale_heads[0]] = torch.full_like(heads[site.scale_heads[0]], float(h))
            if site.kind == "drawn":
                s = model.replay([site.scale], heads, sizes)[site.scale]
            else:
                at = []
                for level in (0.0, 1.0):
                    noise = {n: torch.full(model.replay.shape_of(n, sizes), level, dtype=torch.float64) for n in site.noise}
                    at.append(model.replay([site.z], {**heads, **noise}, sizes)[site.z])
                s = at[1] - at[0]
        except ReplayError:
            return None
        values.append(float(s.flatten()[0]))
    return torch.tensor(values, dtype=torch.float64)


def parameterisation(model: Traced, site: Site) -> Parameterisation:
    """Evaluates the scale over a grid of head values and names the function."""
    if site.kind == "categorical":
        return Parameterisation("categorical")
    if site.scale is None or not site.scale_heads:
        return Parameterisation("constant scale")
    grid = torch.tensor([-40.0, -6.0, -3.0, -1.5, -0.5, 0.25, 1.0, 2.0, 3.0, 12.0], dtype=torch.float64)
    curve = scale_curve(model, site, grid)
    if curve is None:
        return Parameterisation("unknown")
    inner = slice(2, 9)
    name = "other"
    for reading, fn in _READINGS.items():
        expected = fn(grid[inner])
        offset = curve[inner] - expected
        if float(offset.abs().max()) < 1e-9 or (reading.startswith("std (") and float((offset - offset[0]).abs().max()) < 1e-9):
            name = reading
            break
    low, high = float(curve.min()), float(curve.max())
    return Parameterisation(name, low, high, bool((curve < -1e-9).any()))
