"""The likelihood of a reconstruction that its gradient in the reconstruction alone does not tell: which, and what it weighs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field, replace
from functools import partial

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.anatomy.reconstruction.density import FILLS, DensitySlice, curve, density_slice, joined_slice, level
from vaelint.anatomy.reconstruction.density_fit import Shape, shape_of
from vaelint.anatomy.reconstruction.density_weight import mean_score, nodes, telling, weight_by_scores
from vaelint.anatomy.reconstruction.joint_gaussian import joint_gaussian
from vaelint.late import dataclass
from vaelint.record.flow import Flow
from vaelint.replay.measuring import bases, measured
from vaelint.replay.replay import Replay, ReplayError
from vaelint.replay.scale import Scaling

_WIDE = (1.9, -2.3)
_POINTS = torch.cat([torch.linspace(0.02, 0.98, 25), torch.linspace(1.5, 30, 20)]).double()


@dataclass(frozen=True)
class Density:
    """A likelihood told by its slope in the target. `fault` says why it is none, where its shape is that of one."""

    name: str
    weight: float  # of minus its logarithm, in nats, at the sizes of the probe
    parameters: dict[str, float] = field(default_factory=dict)
    learned: bool = False  # a scale, dispersion or variance is learned
    fault: str = ""


def read_density(
    term: Term, leaf: Leaf, loss: fx.Node, flow: Flow, replay: Replay, symbols: Mapping[str, int]
) -> tuple[Density, Scaling, DensitySlice] | None:
    """What the reconstruction that an addend belongs to is as a density of the data, and how its weight moves with every size."""
    at = density_slice(term, leaf, loss, flow, replay)
    found = _element_by_element(at, replay, symbols) if at is not None else None
    if found is not None:
        return found
    whole = joined_slice(term, leaf, loss, flow, replay)
    joint = joint_gaussian(whole, symbols) if whole is not None else None
    if whole is None or joint is None:
        return None
    scaling = _snapped(joint[0])
    return Density("correlated_gaussian" if joint[1] else "gaussian_in_rows", scaling.value, learned=True), scaling, whole


def _element_by_element(at: DensitySlice, replay: Replay, symbols: Mapping[str, int]) -> tuple[Density, Scaling, DensitySlice] | None:
    for base in bases(symbols):
        try:
            known = _measure(at, base)
            found = _described(at, base, known) if known is not None else None
        except ReplayError:
            continue
        if known is None or found is None:
            return None
        scaling = measured(partial(_weight, at, known.name), symbols, replay)
        return (found, _snapped(scaling), at) if scaling is not None else None
    return None


def _snapped(scaling: Scaling) -> Scaling:
    """A constant that is a short number up to the error of the fit is that number."""
    short = float(f"{scaling.constant:.4g}")
    if not short or abs(scaling.constant / short - 1) > 2e-5:
        return scaling
    return Scaling(scaling.value * short / scaling.constant, scaling.exponents, short)


@dataclass(frozen=True)
class _Known:
    name: str
    weight: float
    shapes: list[Shape]  # one for each fill
    learned: bool = True


def _weight(at: DensitySlice, name: str, even: float, sizes: Mapping[str, int]) -> float:
    """The weight with `sizes["B"]` rows: a curve has a row a point, and the weight may move with the rows."""
    got = _measure(at, sizes)
    own, many = (curve(at, sizes, torch.full((rows,), 0.4, dtype=torch.float64), FILLS[0]) for rows in (sizes["B"], _POINTS.numel()))
    if got is None or got.name != name or own is None or many is None or not float(many.slope[0]):
        raise ReplayError("another likelihood at these sizes")
    return got.weight * float(own.slope[0] / many.slope[0])


def _shapes(at: DensitySlice, sizes: Mapping[str, int], fills: tuple[float, ...] = FILLS) -> list[Shape] | None:
    found: list[Shape] = []
    for fill in fills:
        measured_curve = curve(at, sizes, _POINTS, fill)
        shape = shape_of(measured_curve.t, measured_curve.slope) if measured_curve is not None else None
        if shape is None or (found and shape.name != found[0].name):
            return None
        found.append(shape)
    return found


def _measure(at: DensitySlice, sizes: Mapping[str, int]) -> _Known | None:
    """The family by its slope in the target, and its weight."""
    shapes = _shapes(at, sizes)
    if shapes is None:
        return _of_ratios(at, sizes)
    name = shapes[0].name
    if name == "linear":
        return _of_unit_interval(at, sizes)
    if shapes[0].weight:
        same = all(abs(s.weight / shapes[0].weight - 1) < 1e-3 for s in shapes)
        return _Known(name, shapes[0].weight, shapes) if same else None
    w = weight_by_scores(at, sizes, dict(zip(FILLS, shapes, strict=True)))
    if w is None and name == "student_t":
        w = shapes[0].parameters["c"] / (shapes[0].parameters["q"] + 1)  # with a scale of 1, q is the number of degrees of freedom
        return _Known(name, w, shapes, learned=False)
    return _Known(name, w, shapes) if w is not None else None


def _of_unit_interval(at: DensitySlice, sizes: Mapping[str, int]) -> _Known | None:
    """Linear in t: normalised over 0 and 1 a Bernoulli distribution, over [0, 1] a continuous one, over [0, inf) an exponential one."""
    fills = (*FILLS, *_WIDE)
    shapes = _shapes(at, sizes, fills)
    for name, support in (("bernoulli", "ends"), ("continuous_bernoulli", "unit"), ("exponential", "half")) if shapes is not None else ():
        own = [replace(s, support=support) for s in shapes or ()]
        if support == "half" and any(s.parameters["slope"] <= 0 for s in own):
            continue  # it has no end
        w = weight_by_scores(at, sizes, dict(zip(fills, own, strict=True)))
        if w is not None:
            return _Known(name, w, own)
    return None


def _of_ratios(at: DensitySlice, sizes: Mapping[str, int]) -> _Known | None:
    """w (t / r - log(t / r)), the Itakura-Saito distance in one addend: but for w log t, which no gradient sees, an exponential one."""
    own: list[Shape] = []
    columns = torch.stack([torch.ones_like(_POINTS), 1 / _POINTS], 1)
    for fill in (*FILLS, *_WIDE):
        found = curve(at, sizes, _POINTS, fill)
        if found is None or not bool(found.slope.isfinite().all()):
            return None
        fitted = torch.linalg.lstsq(columns, found.slope.unsqueeze(1)).solution.flatten()
        off = float((columns @ fitted - found.slope).abs().max())
        if off > 1e-6 * float(found.slope.abs().max()) or float(fitted[0]) <= 0 or float(fitted[1]) >= 0:
            return None
        slope = float(fitted[0])
        own.append(Shape("linear", {"slope": slope}, partial(torch.mul, slope), support="half"))
    w = weight_by_scores(at, sizes, dict(zip((*FILLS, *_WIDE), own, strict=True)))
    return _Known("exponential", w, own) if w is not None and abs(w + float(fitted[1])) < 1e-4 * w else None


def _described(at: DensitySlice, sizes: Mapping[str, int], known: _Known) -> Density | None:
    """What else there is to say: parameters, extra zeros, components, whether it is normalised."""
    if known.name == "negative_binomial":
        return _of_counts(at, sizes, known)
    if known.name == "student_t":
        return Density(known.name, known.weight, {"nu": known.shapes[0].parameters["c"] / known.weight - 1}, known.learned)
    if known.name == "logistic":
        name, parameters = _binned(at, sizes, known)
    else:
        name, parameters = known.name, {}
    if known.name in ("gaussian", "laplace", "logistic") and _is_mixture(at, sizes, known.name):
        name = f"mixture_of_{name}"
    return Density(name, known.weight, parameters, known.learned)


def _of_counts(at: DensitySlice, sizes: Mapping[str, int], known: _Known) -> Density | None:
    """A negative binomial; with a jump at 0, one with extra zeros. Its scores must have mean 0, or its normaliser is wrong."""
    w, zeros, worst = known.weight, False, 0.0
    for fill, shape in zip(FILLS, known.shapes, strict=True):
        points, mass = nodes(shape)
        whole = curve(at, sizes, points, fill)
        if whole is None:
            return None
        near, zero = (level(at, sizes, _POINTS.numel(), p, fill) for p in (1e-5, 0.0))
        zeros = zeros or abs(near - zero) > 1e-3 * w
        for score in telling(whole):
            worst = max(worst, abs(mean_score(shape, whole, mass, w, score, near - zero)))
    parameters = {} if zeros else {"dispersion": known.shapes[0].parameters["dispersion"]}
    fault = f"its normaliser is not that of a negative binomial: its slope has a mean of {worst:.2g} of its size" if worst > 0.02 else ""
    return Density("zero_inflated_negative_binomial" if zeros else "negative_binomial", w, parameters, True, fault)


def _binned(at: DensitySlice, sizes: Mapping[str, int], known: _Known) -> tuple[str, dict[str, float]]:
    """The height of the curve tells a density, at most 1 / (4 s), from the mass of a bin."""
    shape = known.shapes[0]
    s, u = shape.parameters["scale"], (0.5 - shape.parameters["location"]) / shape.parameters["scale"]
    height = math.exp(-level(at, sizes, _POINTS.numel(), 0.5, FILLS[0]) / known.weight)
    slope = 1 / ((1 + math.exp(-u)) * (1 + math.exp(u)) * s)
    if abs(height / slope - 1) < 1e-2:
        return "logistic", {}
    return "discretised_logistic", {"half_width": 0.5 * height / slope}


def _is_mixture(at: DensitySlice, sizes: Mapping[str, int], name: str) -> bool:
    """Whether the family is only met where all that the decoder puts out for one element is alike: components that lie together."""
    apart = curve(at, sizes, _POINTS, FILLS[0], apart=True)
    shape = shape_of(apart.t, apart.slope) if apart is not None else None
    return shape is None or shape.name != name
