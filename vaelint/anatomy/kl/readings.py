"""The gradients of a Gaussian KL under each parameterisation of the scale, and the fit of measured ones to them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float


def fit(target: Float[torch.Tensor, " n"], columns: list[torch.Tensor]) -> tuple[list[float], float]:
    """Least squares coefficients of `target` on `columns`, and the largest relative residual."""
    target = target.detach()
    a = torch.stack([c.detach().expand_as(target) for c in columns], dim=1)
    if not (bool(torch.isfinite(a).all()) and bool(torch.isfinite(target).all())):
        return [math.nan] * len(columns), math.inf  # LAPACK stops at such numbers
    solution = torch.linalg.lstsq(a, target.unsqueeze(1), driver="gelsd").solution.squeeze(1)
    scale = float(target.abs().max()) or 1.0
    return [float(c) for c in solution], float((a @ solution - target).abs().max()) / scale


SOFTENED = 1e-3
"""How far a small constant, as in log(s + 1e-6), may move a closed form."""


def agree(*coefficients: float) -> bool:
    """Whether coefficients are one number, up to what a small constant inside a logarithm changes."""
    return max(coefficients) - min(coefficients) <= SOFTENED * max(abs(c) for c in coefficients)


READINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "logvar": lambda h: 0.5 * (h.exp() - 1),
    "log-std": lambda h: (2 * h).exp() - 1,
    "std": lambda h: h - 1 / h,
    "variance": lambda h: 0.5 * (1 - 1 / h),
}
"""dKL/dh for a head h read as each parameterisation."""

SCALE_READINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "logvar": lambda s: 0.5 * s * (s.exp() - 1),
    "log-std": lambda s: s * ((2 * s).exp() - 1),
    "variance": lambda s: 0.5 * (s - 1),
}
"""dKL/dlog s when the sampler's scale s is itself taken for a log-variance, a log-standard deviation, a variance."""

VARIANCE_READINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "logvar": lambda s: s**2 * ((s**2).exp() - 1),
    "log-std": lambda s: 2 * s**2 * ((2 * s**2).exp() - 1),
    "std": lambda s: 2 * (s**4 - 1),
}
"""dKL/dlog s when the sampler's variance s^2 is itself taken for a log-variance, a log-standard deviation, a standard deviation."""


_TOLERANCE = 1e-6


def read_against_wide_prior(
    head: Float[torch.Tensor, " n"], gradient: Float[torch.Tensor, " n"], along_mean: float
) -> tuple[str, float] | None:
    """The reading under which a term is an exact KL to N(0, r^2), r other than 1, and its weight; `along_mean` is that of m in dKL/dm.

    For s = exp(k h / 2), dKL/dh = w (k / 2) (exp(k h) / r^2 - 1) and dKL/dm = w m / r^2.
    """
    for name, k in (("logvar", 1.0), ("log-std", 2.0)):
        (rise, fall), residual = fit(gradient, [(k * head).exp(), torch.ones_like(head)])
        weight = -fall * 2 / k
        if residual < _TOLERANCE and agree(rise, along_mean * k / 2) and weight * along_mean > 0 and not agree(along_mean, weight):
            return name, weight
    return None


def partly_read(head: Float[torch.Tensor, " n"], gradient: Float[torch.Tensor, " n"], along_mean: float) -> dict[str, float]:
    """A log-determinant in one parameterisation and a variance in another: `1 + 2*ls - m^2 - exp(ls)`."""
    for power in (0.5, 1.0, 2.0, 4.0):
        (b, c), residual = fit(gradient, [(power * head).exp(), torch.ones_like(head)])
        if residual < _TOLERANCE and abs(b) > 1e-9:
            return {"m": 1.0, f"exp({power:g}*head)": b / along_mean, "1": -c / along_mean}
    return {}
