"""Which likelihood a slope in the target belongs to, by its shape over the target's values.

For -w log p(t), the slope in t is, up to w: t - m over s^2 for a Gaussian; (nu + 1)(t - m) / (nu s^2 + (t - m)^2) for Student's t;
sinh u / (cosh u + cosh k) / s with u = (t - m) / s and k = h / s for the mass that a logistic distribution has in t - h .. t + h (Salimans
et al. 2017, equation 2), with h = 0 for its density; digamma(t + 1) - digamma(t + r) + const for a negative binomial of dispersion r
(Lopez et al. 2018); a constant for the Bernoulli distribution, the continuous one (Loaiza-Ganem and Cunningham 2019) and the exponential
one, whose -log is the Itakura-Saito distance up to a constant (Fevotte et al. 2009).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import field

import torch

from vaelint.anatomy.kl.readings import fit
from vaelint.late import dataclass

_TOLERANCE = 1e-6
_GOLDEN = (3 - math.sqrt(5)) / 2
_NO_COUNTS = 0.1
"""Where no dispersion of the grid leaves less than this, none between them fits: of true ones the nearest leaves 0.031 at most."""


@dataclass(frozen=True)
class Shape:
    """A family, the parameters that its slope in t shows, and minus w log p(t) up to a constant."""

    name: str
    parameters: dict[str, float]
    value: Callable[[torch.Tensor], torch.Tensor] = field(repr=False)
    weight: float = 0.0  # 0 where the slope alone does not tell it
    support: str = "real"  # "real", "unit", "ends" (0 and 1), "half" (from 0), "counts"
    centre: float = 0.0
    spread: float = 1.0


def shape_of(t: torch.Tensor, y: torch.Tensor) -> Shape | None:
    """The first family whose slope this is; points with t in (0, 1) and beyond as far as the code ran there."""
    ok = y.isfinite()
    t, y = t[ok], y[ok]
    if t.numel() < 12 or float(y.abs().max()) == 0:
        return None
    for family in (_linear, _laplace, _student, _counts, _logistic):
        found = family(t, y)
        if found is not None:
            return found
    return None


def _linear(t: torch.Tensor, y: torch.Tensor) -> Shape | None:
    (a, b), residual = fit(y, [t, torch.ones_like(t)])
    if residual > _TOLERANCE:
        return None
    if abs(a) <= 1e-6 * abs(b):
        return Shape("linear", {"slope": b}, lambda v: b * v, support="unit")
    if a <= 0:
        return None
    m = -b / a
    return Shape("gaussian", {"mean": m}, lambda v: 0.5 * a * (v - m) ** 2, centre=m, spread=1 / math.sqrt(a))


def _laplace(t: torch.Tensor, y: torch.Tensor) -> Shape | None:
    c = float(y.abs().max())
    if float((y.abs() - c).abs().max()) > _TOLERANCE * c or not (bool((y > 0).any()) and bool((y < 0).any())):
        return None
    low, high = float(t[y < 0].max()), float(t[y > 0].min())
    if low > high:
        return None
    m = 0.5 * (low + high)
    return Shape("laplace", {"median": m}, lambda v: c * (v - m).abs(), centre=m, spread=1 / c)


def _student(t: torch.Tensor, y: torch.Tensor) -> Shape | None:
    (k1, k2, c, d), _ = fit(y * t**2, [y, y * t, t, torch.ones_like(t)])
    m = k2 / 2
    q = -k1 - m * m
    if c <= 0 or q <= 0 or abs(d + c * m) > 1e-4 * (abs(d) + c):
        return None
    if float((c * (t - m) / (q + (t - m) ** 2) - y).abs().max()) > _TOLERANCE * float(y.abs().max()):
        return None
    return Shape(
        "student_t", {"location": m, "c": c, "q": q}, lambda v: 0.5 * c * torch.log1p((v - m) ** 2 / q), centre=m, spread=math.sqrt(q)
    )


def _counts(t: torch.Tensor, y: torch.Tensor) -> Shape | None:
    """a digamma(t + 1) - b digamma(t + r) + c, the dispersion r found by search; a = b, or a = 0 where log t! was left out."""
    used = t > 0.01
    t, y = t[used], y[used]
    if t.numel() < 12 or float(t.max()) < 5:
        return None
    one = torch.ones_like(t)

    def residual(log_r: float) -> float:
        return fit(y, [torch.digamma(t + 1), torch.digamma(t + math.exp(log_r)), one])[1]

    grid = torch.linspace(-4, 6, 41, dtype=t.dtype)
    start, least = _best(grid, t, y)
    if least > _NO_COUNTS:
        return None
    low, high = start - 0.25, start + 0.25
    left, right = low + _GOLDEN * (high - low), high - _GOLDEN * (high - low)
    at_left, at_right = residual(left), residual(right)
    for _ in range(60):
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = low + _GOLDEN * (high - low)
            at_left = residual(left)
        else:
            low, left, at_left = left, right, at_right
            right = high - _GOLDEN * (high - low)
            at_right = residual(right)
    r = math.exp(0.5 * (low + high))
    (a, minus_b, c), left_over = fit(y, [torch.digamma(t + 1), torch.digamma(t + r), one])
    b = -minus_b
    if left_over > 1e-5 or b <= 0 or (abs(a - b) > 1e-3 * b and abs(a) > 1e-3 * b):
        return None
    return Shape(
        "negative_binomial",
        {"dispersion": r},
        lambda v: b * (torch.lgamma(v + 1) - torch.lgamma(v + r)) + c * v,
        weight=b,
        support="counts",
    )


def _best(grid: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    """The logarithm of a dispersion that fits best, and the largest relative residual that it leaves: all fits at once."""
    columns = [
        torch.digamma(t + 1).expand(len(grid), -1),
        torch.digamma(t + grid.exp()[:, None]),
        torch.ones(len(grid), len(t), dtype=t.dtype),
    ]
    a = torch.stack(columns, 2)
    solution = torch.linalg.lstsq(a, y.expand(len(grid), -1)[..., None], driver="gelsd").solution
    left_over = ((a @ solution)[..., 0] - y).abs().amax(1) / float(y.abs().max())
    nearest = int(left_over.argmin())
    return float(grid[nearest]), float(left_over[nearest])


def _logistic(t: torch.Tensor, y: torch.Tensor) -> Shape | None:
    """Least squares in amplitude, location, scale and width (Levenberg and Marquardt), from a few starts."""
    inner = (t > 0) & (t < 1)
    t, y = t[inner], y[inner]
    if t.numel() < 12:
        return None
    best: tuple[float, torch.Tensor] | None = None
    for start in _starts(t, y):
        found = _refined(t, y, torch.tensor(start, dtype=torch.float64))
        if best is None or found[0] < best[0]:
            best = found
        if best[0] < 1e-8:
            break
    if best is None or best[0] > _TOLERANCE:
        return None
    a, m, s, k = float(best[1][0].exp()), float(best[1][1]), float(best[1][2].exp()), float(best[1][3].exp())
    width = k * s if k > 3e-3 else 0.0
    return Shape("logistic", {"location": m, "scale": s, "half_width": width}, lambda v: a * v, weight=a * s, centre=m, spread=s)


def _starts(t: torch.Tensor, y: torch.Tensor) -> Iterator[list[float]]:
    """First from y' = (A^2 - y^2) / (2 s A), which the density obeys, by differences; then from places all over."""
    slope, middle = (y[1:] - y[:-1]) / (t[1:] - t[:-1]), 0.5 * (y[1:] + y[:-1])
    (a, b), _ = fit(slope, [torch.ones_like(middle), -(middle**2)])
    if a > 0 and b > 0:
        amplitude, s = math.sqrt(a / b), 0.5 / math.sqrt(a * b)
        m = t - 2 * s * torch.atanh((y / amplitude).clamp(-0.999, 0.999))
        yield [math.log(amplitude), float(m.median()), math.log(s), -2.0]
    for scale in (0.1, 0.6, 2.0):
        for centre in (0.5, -0.3, 1.3):
            yield [math.log(float(y.abs().max())), centre, math.log(scale), -2.0]


def _refined(t: torch.Tensor, y: torch.Tensor, p: torch.Tensor) -> tuple[float, torch.Tensor]:
    damping, scale = 1e-2, float(y.abs().max())
    value, columns = _model(p, t)
    error = (value - y) / scale
    for _ in range(25):
        jacobian = columns / scale
        normal = jacobian.t() @ jacobian
        step = torch.linalg.solve(normal + damping * torch.diag(normal.diagonal() + 1e-12), -jacobian.t() @ error)
        next_value, next_columns = _model(p + step, t)
        tried = (next_value - y) / scale
        if float(tried.square().sum()) < float(error.square().sum()):
            p, error, columns, damping = p + step, tried, next_columns, max(damping / 5, 1e-12)
        else:
            damping *= 6
        if float(error.abs().max()) < 1e-10 or damping > 1e8:
            break
    return float(error.abs().max()), p


def _model(p: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A (sigmoid(u + k) + sigmoid(u - k) - 1) and its slopes in log A, m, log s and log k, one column each."""
    a, k = p[0].exp(), p[3].exp()
    u = (t - p[1]) * (-p[2]).exp()
    high, low = torch.sigmoid(u + k), torch.sigmoid(u - k)
    rise, fall = high * (1 - high), low * (1 - low)
    value = a * (high + low - 1)
    return value, torch.stack([value, -a * (-p[2]).exp() * (rise + fall), -a * u * (rise + fall), a * k * (rise - fall)], 1)
