"""What the KL term is: measured by its gradients on chosen posteriors, never by its spelling.

For q = N(m, s^2) and p = N(0, 1), KL = (m^2 + s^2 - 1 - log s^2) / 2 (Kingma & Welling 2014, appendix B), so dKL/dm = m and
dKL/dlog s = s^2 - 1. A term whose gradients are `w` times these *is* `w * KL`, however it is written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import fx

from vaelint.anatomy import ops
from vaelint.anatomy.flow import Flow
from vaelint.anatomy.kl_families import GAUSSIAN, LAPLACE, Family, family_of
from vaelint.anatomy.kl_slice import Slice as Slice
from vaelint.anatomy.kl_slice import loose_ends as loose_ends
from vaelint.anatomy.kl_slice import value_near
from vaelint.anatomy.kl_whole import fit_whole
from vaelint.anatomy.learned_prior import slipped_factor
from vaelint.anatomy.readings import READINGS, SCALE_READINGS, SOFTENED, agree, fit, partly_read, read_against_wide_prior
from vaelint.anatomy.replay import Replay, ReplayError, gradients
from vaelint.anatomy.sites import Site
from vaelint.graph import route, shape

Verdict = Literal[
    "exact",
    "prior",
    "monte_carlo",
    "wrong",
    "sign",
    "parameterisation",
    "swapped",
    "reversed",
    "inverted_floor",
    "other",
    "unknown",
    "mean_only",
    "categorical",
    "bernoulli",
]
_TOLERANCE = 1e-6
THROUGH_LAYERS = "a Monte Carlo estimate whose prior is reached through learned layers, as a flow's is"
_LEAST_PRIOR = 1e-6  # the least variance of a prior; a fit below it has no log-determinant to speak of


@dataclass
class KlProbe:
    """What was measured of a KL term.

    `weight` is the term's weight against the exact KL of one latent, at the probe's sizes; `coefficients` are those of m in dL/dm and of
    s^2 and -1 in dL/dlog s, divided by the weight of a correct term: (1, 1, 1) when the formula is right.
    """

    verdict: Verdict
    weight: float = 0.0
    coefficients: dict[str, float] = field(default_factory=dict)
    reads_as: str = ""  # the parameterisation under which the term is an exact KL
    prior: tuple[float, float] = (0.0, 1.0)  # mean and standard deviation of the prior, when constant
    capacity: bool = False  # the sign of its gradient depends on the KL: |KL - C|
    floor: bool = False  # no gradient while the KL is small: free bits
    reason: str = ""
    monte_carlo: bool = False
    learned_prior: bool = False
    whole: bool = False  # measured as one function of all heads: full covariance, mixed heads
    family: str = "Gaussian"  # of the posterior, where it is located and scaled


def probe_kl(slice_: Slice, sizes: Mapping[str, int]) -> list[tuple[Site | None, KlProbe]]:
    """Measures a KL term at given (small) sizes, once for each place in the source where a posterior is drawn."""
    sites = [s for s in slice_.sites if s.kind in ("gaussian", "laplace", "drawn", "noise")]
    if not sites or not slice_.heads:
        return [(None, KlProbe("other", reason="the posterior is not a Gaussian found by its draw"))]
    # one site for each way to a draw: of a loop the last turn, as its prior is no longer the start value; each caller of a shared helper
    places: dict[object, Site] = {route(s.z): s for s in sites}
    found: list[tuple[Site | None, KlProbe]] = []
    seen: set[tuple[fx.Node, ...]] = set()
    for site in places.values():
        if site.heads in seen:
            continue  # another draw of the same posterior
        seen.add(site.heads)
        try:
            found.append((site, _probe(slice_, site, sizes)))
        except ReplayError as error:
            found.append((site, KlProbe("unknown", reason=str(error))))
    return found


def _values(heads: list[fx.Node], replay: Replay, sizes: Mapping[str, int], spread: float, seed: int) -> dict[fx.Node, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        h: spread
        * (0.25 + torch.rand(replay.shape_of(h, sizes), dtype=torch.float64, generator=generator))
        * _signs(replay.shape_of(h, sizes), generator)
        for h in heads
    }


def random_points(slice_: Slice, sizes: Mapping[str, int], spread: float = 2.0) -> list[dict[fx.Node, torch.Tensor]]:
    """Three random values of all heads."""
    return [_values(slice_.heads, slice_.replay, sizes, spread, 40 + seed) for seed in range(3)]


def _signs(size: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    return torch.where(torch.rand(size, generator=generator) < 0.5, -1.0, 1.0).double()


@dataclass
class _Points:
    """Matching samples of m, s, dL/dm and dL/dlog s over all elements of one site."""

    m: torch.Tensor
    s: torch.Tensor
    gm: torch.Tensor
    gt: torch.Tensor
    hm: torch.Tensor
    hs: torch.Tensor
    ghs: torch.Tensor
    ghm: torch.Tensor


def _probe(slice_: Slice, site: Site, sizes: Mapping[str, int]) -> KlProbe:
    small, middle, large = (_zero_share(slice_, site, sizes, spread) for spread in (0.4, 2.0, 8.0))
    if small == middle == large == 1.0:
        if _zero_share(slice_, site, sizes, 0.05) < 1.0:  # a low ceiling: next to the prior there is a gradient
            return KlProbe("inverted_floor", reason="the gradient vanishes where the KL is large")
        return KlProbe("unknown", reason="no gradient reaches the posterior's mean through this term")
    if large > small and large > 0.2:
        return KlProbe("inverted_floor", reason="the gradient vanishes where the KL is large")
    floor = small > large
    spread = 2.0 if middle == large else 6.0
    points = None if len(site.mu_heads) != 1 or _is_full_covariance(site, slice_.flow) else _points(slice_, site, sizes, spread)
    probe = _whole(slice_, site, sizes, spread) if points is None else _judge(slice_, site, points, sizes, spread)
    if probe.verdict == "wrong" and points is not None and _vanishes_at_prior(slice_, site, sizes, probe):
        probe = replace(probe, verdict="prior", prior=(0.0, (probe.coefficients["1"] / probe.coefficients["m"]) ** 0.5))
    if points is not None and probe.verdict == "sign" and (beyond := _points(slice_, site, sizes, 9.0)) is not None:
        again = _judge(slice_, site, beyond, sizes, 9.0)
        if again.verdict == "exact":  # |KL - C| below its capacity
            probe = again
            probe.capacity = True
    probe.floor = floor
    probe.learned_prior = bool(slice_.others)
    probe.family = family_of(site).name
    if points is not None and probe.verdict in ("exact", "prior") and not floor:
        near = _points(slice_, site, sizes, 0.3)
        if not probe.capacity and near is not None and float((near.gm * near.m).sum()) * probe.weight < 0:
            probe.capacity = True
    return probe


def _is_full_covariance(site: Site, flow: Flow) -> bool:
    between = flow.ancestors(site.z, stop={*site.heads, *site.noise}) & site_region(site, flow)
    return any(ops.op(n) in ("matmul", "bmm", "mm", "mv", "einsum") for n in between)


def site_region(site: Site, flow: Flow) -> set[fx.Node]:
    """The nodes between a site's noise and its z."""
    return flow.descendants(*site.noise, stop={site.z}) if site.noise else set()


def _zero_share(slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float) -> float:
    """The share of the posterior mean's elements that get no gradient when the heads lie about `spread` from 0."""
    shares = []
    for seed in (3, 4):
        grads = slice_.gradients(sizes, _values(slice_.heads, slice_.replay, sizes, spread, seed))
        shares += [float((grads[h] == 0).double().mean()) for h in site.mu_heads if grads[h].numel()]
    return max(shares, default=1.0)


def _points(slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float, fill: float = 0.3) -> _Points | None:
    """Collects samples over several draws of the heads; None when the moments are not element-wise functions of one head each."""
    collected = [_points_of(slice_, site, sizes, spread, fill, seed) for seed in range(3)]
    whole = [p for p in collected if p is not None]
    if len(whole) < len(collected):
        return None
    joined = _Points(*(torch.cat([getattr(p, f) for p in whole]) for f in ("m", "s", "gm", "gt", "hm", "hs", "ghs", "ghm")))
    return joined if joined.m.numel() >= 6 else None


def _points_of(slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float, fill: float, seed: int) -> _Points | None:
    """The samples of one draw."""
    hm = site.mu_heads[0]
    hs = site.scale_heads[0] if len(site.scale_heads) == 1 else None
    if hs is None or hs is hm or shape(hm) != shape(hs):
        return None
    values = _values(slice_.heads, slice_.replay, sizes, spread, 10 + seed)
    grads = slice_.gradients(sizes, values, fill, seed=seed)
    leaves = {h: v.clone().requires_grad_() for h, v in values.items()}
    m, s = slice_.moments(site, sizes, {h: v.clone() for h, v in leaves.items()})
    if s is None or m.shape != leaves[hm].shape or s.shape != leaves[hs].shape:
        squeezed = _match(m, leaves[hm]), None if s is None else _match(s, leaves[hs])
        if squeezed[0] is None or squeezed[1] is None:
            return None
        m, s = squeezed[0], squeezed[1]
    if not m.requires_grad or not s.requires_grad:
        return None
    dm = gradients(m, [leaves[hm]], retain=True)[0]
    ds = gradients(s, [leaves[hs]])[0]
    if dm is None or ds is None:
        return None
    ok = (dm.abs() > 1e-9) & (ds.abs() > 1e-9) & (s.abs() > 1e-6)
    columns = (m, s, grads[hm] / dm, grads[hs] * s / ds, values[hm], values[hs], grads[hs], grads[hm])
    return _Points(*(c.detach()[ok] for c in columns))


def _match(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor | None:
    """`value` in the shape of `like`: sample axes in front are dropped, a pure change of shape is undone."""
    while value.dim() > like.dim() and value.shape[1:] == like.shape:
        value = value[0]
    return value.reshape(like.shape) if value.numel() == like.numel() else None


def _judge(slice_: Slice, site: Site, p: _Points, sizes: Mapping[str, int], spread: float) -> KlProbe:
    one = torch.ones_like(p.m)
    if slice_.draws:
        if _through_layers(slice_, site):
            return KlProbe("other", monte_carlo=True, reason=THROUGH_LAYERS)
        return _judge_monte_carlo(slice_, site, sizes, spread)
    masked = (p.gm != 0) | (p.gt != 0)
    if not bool(masked.all()) and bool(masked.any()):  # padding masks, floors per element
        p = _Points(*(getattr(p, f)[masked] for f in ("m", "s", "gm", "gt", "hm", "hs", "ghs", "ghm")))
        one = torch.ones_like(p.m)
    family = family_of(site)
    if family is not GAUSSIAN:
        return _judge_family(p, family)
    (a, a0), res_m = fit(p.gm, [p.m, one])
    (b, minus_c), res_t = fit(p.gt, [p.s**2, one])
    c = -minus_c
    if res_m < _TOLERANCE and res_t < _TOLERANCE:
        return _against_learned(_judge_coefficients(a, a0, b, c, bool(slice_.others)), slice_, site, sizes, spread)
    if max(res_m, res_t) < SOFTENED and agree(a, b, c) and abs(a0) < SOFTENED * abs(a):
        return KlProbe("exact" if a > 0 else "sign", a, {"m": 1.0, "s2": 1.0, "1": 1.0})  # a small constant inside a logarithm or a root
    weights = p.gm / p.m
    weights_t = p.gt / (p.s**2 - 1)
    if bool(((weights - weights_t).abs() <= 1e-6 * weights.abs().max()).all()):
        return KlProbe(
            "exact", float(weights.abs().median() * weights.median().sign()), {"m": 1.0, "s2": 1.0, "1": 1.0}
        )  # weighted element by element
    (ra,), res_rm = fit(p.gm, [p.m / p.s**2]) if not slice_.others else _fit_shifted(p)
    if res_rm < _TOLERANCE and ra != 0:
        return KlProbe("reversed", abs(ra), reason="dKL/dm falls with the variance of the posterior")
    if res_m < _TOLERANCE and not slice_.others:
        for name, reading in READINGS.items():
            (w,), res = fit(p.ghs, [reading(p.hs)])
            if res < _TOLERANCE and abs(w - a) < 1e-6 * max(abs(a), abs(w)):
                return KlProbe("parameterisation", w, reads_as=name)
        for name, slope in SCALE_READINGS.items():
            (w,), res = fit(p.gt, [slope(p.s)])
            if res < _TOLERANCE and abs(w - a) < 1e-6 * max(abs(a), abs(w)):
                return KlProbe("parameterisation", w, reads_as=name, reason="the value of the scale itself is read so")
        wide = read_against_wide_prior(p.hs, p.ghs, a)
        if wide is not None and _is_prior(a, wide[1]):
            return KlProbe("parameterisation", wide[1], reads_as=wide[0], prior=(0.0, (wide[1] / a) ** 0.5))
        partial = partly_read(p.hs, p.ghs, a)
        if partial:
            return KlProbe("wrong", a, partial, reason="one part of the formula reads the head differently from the other")
    if not slice_.others:
        (w,), res = fit(p.ghs, [p.hs])
        for name, reading in READINGS.items():
            (v,), res_v = fit(p.ghm, [reading(p.hm)])
            if res < _TOLERANCE and res_v < _TOLERANCE and abs(w - v) < 1e-6 * max(abs(w), abs(v)):
                return KlProbe("swapped", w, reads_as=name)
    return _judge_stationary(slice_, site, p, sizes, a, res_m)


def _through_layers(slice_: Slice, site: Site) -> bool:
    """Whether the prior's side of a Monte Carlo estimate sees z through learned layers."""
    return any(site.z in slice_.flow.ancestors(n) for n in slice_.others)


def _vanishes_at_prior(slice_: Slice, site: Site, sizes: Mapping[str, int], probe: KlProbe) -> bool:
    """Whether a term whose parts have the proportions of a KL to a prior of another scale is 0 at that prior, as a KL is."""
    known = probe.coefficients
    if set(known) != {"m", "s2", "1"} or abs(known["m"] - known["s2"]) > 1e-6 * abs(known["m"]) or known["m"] * known["1"] <= 0:
        return False
    wanted = (known["1"] / known["m"]) ** (1 / family_of(site).power)
    value, scale = value_near(slice_, site, sizes, wanted)
    return scale is not None and abs(value) <= 1e-6 * abs(known["1"])


def _judge_family(p: _Points, family: Family) -> KlProbe:
    """A posterior that is no Gaussian, against the closed form of its own family with a prior at 0."""
    (a,), res_m = fit(p.gm, [family.along_mean(p.m, p.s)])
    (b, minus_c), res_t = fit(p.gt, [family.along_scale(p.m, p.s), torch.ones_like(p.m)])
    if res_m < _TOLERANCE and res_t >= _TOLERANCE and a > 0:
        return KlProbe("wrong", a, {"m": 1.0}, reason=f"its part in the scale is not that of a {family.name} KL")
    if res_m >= _TOLERANCE or res_t >= _TOLERANCE:
        return KlProbe("other", reason=f"its gradients are not those of a {family.name} KL to a prior at 0")
    return _judge_coefficients(a, 0.0, b, -minus_c, False)


def _against_learned(probe: KlProbe, slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float) -> KlProbe:
    """A term that is a KL to some Gaussian at one value of a learned prior, held against the prior at other values."""
    if probe.verdict != "prior" or not slice_.others:
        return probe

    def ratio_at(fill: float) -> float | None:
        points = _points(slice_, site, sizes, spread, fill)
        if points is None:
            return None
        one = torch.ones_like(points.m)
        (a, _), _ = fit(points.gm, [points.m, one])
        (_, minus_c), _ = fit(points.gt, [points.s**2, one])
        return -minus_c / a if a else None

    factor = slipped_factor(ratio_at)
    if factor is None or abs(factor - 1) < 1e-4:
        return probe
    share = {"m": probe.weight / factor, "s2": probe.weight / factor, "1": probe.weight}
    return KlProbe("wrong", probe.weight / factor, share, learned_prior=True)


def _fit_shifted(p: _Points) -> tuple[list[float], float]:
    (a, _), res = fit(p.gm, [p.m / p.s**2, 1 / p.s**2])
    return [a], res


def _judge_coefficients(a: float, a0: float, b: float, c: float, learned_prior: bool) -> KlProbe:
    """dL/dm = a m + a0 and dL/dlog s = b s^2 - c: exact when a = b = c; a = b alone is another constant prior."""
    biggest = max(abs(a), abs(b), abs(c), abs(a0)) or 1.0

    def same(x: float, y: float) -> bool:
        return abs(x - y) <= 1e-6 * biggest

    coefficients = {"m": a, "s2": b, "1": c}
    centred = abs(a0) <= 1e-6 * biggest
    if same(a, b) and same(b, c) and centred:
        return KlProbe("sign" if a < 0 else "exact", a, coefficients)
    plausible = bool(a) and _LEAST_PRIOR < abs(c / a) < 1 / _LEAST_PRIOR  # 0: there is no log s at all
    if same(a, b) and a * c > 0 and plausible and (learned_prior or not centred or _is_prior(a, c)):
        return KlProbe("sign" if a < 0 else "prior", c, coefficients, prior=(-a0 / a, (c / a) ** 0.5))
    if learned_prior and same(a, b):
        return KlProbe("unknown", c, coefficients, reason="the prior is learned and the term is no KL to it at the probe's point")
    return KlProbe("wrong", c if plausible else a, coefficients)


def _is_prior(a: float, c: float) -> bool:
    """Whether c/a is a plausible prior variance rather than a slipped factor 2.

    After such a slip the KL weighs log s by a power of two it should not have.
    """
    ratio = c / a
    return not any(abs(ratio - slip) < 1e-6 for slip in (2.0, 0.5)) or abs(abs(c) - 1) < 1e-6


def _judge_monte_carlo(slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float) -> KlProbe:
    """log q(z) - log p(z) at z = m + s e: dL/dm = z, dL/dlog s = z s e - 1."""
    m_all, z_all, g_all = [], [], []
    for seed in range(3):
        values = _values(slice_.heads, slice_.replay, sizes, spread, 20 + seed)
        grads = slice_.gradients(sizes, values, seed=seed)
        overrides = slice_.overrides(sizes, values, 0.3, None, seed)
        z = slice_.replay([site.z], overrides, sizes)[site.z]
        hm = site.mu_heads[0]
        like = _match(z, values[hm])
        if like is None or z.numel() != grads[hm].numel():
            return KlProbe("other", monte_carlo=True, reason="several samples of z per posterior")
        m_all.append(values[hm].flatten())
        z_all.append(like.flatten())
        g_all.append(grads[hm].flatten())
    g, z = torch.cat(g_all), torch.cat(z_all)
    (a, b), res = fit(g, [z, torch.ones_like(z)])
    if res < 1e-5:
        prior = (0.0, 1.0)
        if slice_.others and (w := _drawn_weight(slice_, site, sizes, spread)) is not None and w / a > 0:
            prior, a = (-b / a, math.sqrt(w / a)), w  # the slope holds the weight and the learned prior's variance in one
        return KlProbe("sign" if a < 0 else "monte_carlo", a, prior=prior, monte_carlo=True)
    (a,), res = fit(g, [LAPLACE.score(z)])
    if res < 1e-5:
        return KlProbe("sign" if a < 0 else "monte_carlo", a, monte_carlo=True, reason="the prior is a Laplace distribution")
    return KlProbe("other", monte_carlo=True, reason="a Monte Carlo estimate against a prior that is not Gaussian")


def _drawn_weight(slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float) -> float | None:
    """The weight w of log q(z) - log p(z) against any Gaussian prior N(n, r^2), at z = m + s e.

    dL/dm = w (z - n) / r^2 and dL/dlog s = w ((z - n) / r^2 s e - 1), so that dL/dm (z - m) - dL/dlog s = w, whatever n and r are.
    None where the moments are not element-wise functions of one head each.
    """
    found = []
    for seed in range(3):
        points = _points_of(slice_, site, sizes, spread, 0.3, seed)
        if points is None:
            return None
        values = _values(slice_.heads, slice_.replay, sizes, spread, 10 + seed)
        z = _match(slice_.replay([site.z], slice_.overrides(sizes, values, 0.3, None, seed), sizes)[site.z], values[site.mu_heads[0]])
        if z is None or z.numel() != points.m.numel():
            return None
        found.append(points.gm * (z.detach().flatten() - points.m) - points.gt)
    w = torch.cat(found)
    mean = float(w.mean())
    return mean if mean and float((w - mean).abs().max()) < 1e-4 * abs(mean) else None


def _whole(slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float) -> KlProbe:
    """Full covariance, or heads that are mixed: held against the closed form as a function of all heads, else in the mean alone."""
    if site.kind == "gaussian" and not slice_.draws:
        found = fit_whole(slice_, site, sizes, random_points(slice_, sizes, min(spread, 2.0)))
        if found is not None:
            a, a0, b, c = found
            judged = replace(_judge_coefficients(a, a0, b, c, bool(slice_.others)), whole=True)
            if judged.verdict != "wrong" or a * b * c != 0:  # a part that is missing may stand in a term of its own
                return judged
    if slice_.draws and len(site.mu_heads) == 1 and not _through_layers(slice_, site):
        return _judge_monte_carlo(slice_, site, sizes, spread)
    return _mean_only(slice_, site, sizes, spread)


def _mean_only(slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float) -> KlProbe:
    """Full covariance, a fixed scale, or heads that are mixed: only dL/dm can be held against the KL."""
    if not site.mu_heads or len(site.mu_heads) != 1 or slice_.draws:
        return KlProbe("other", monte_carlo=bool(slice_.draws), reason="the posterior's mean is made of several values")
    hm = site.mu_heads[0]
    values = _values(slice_.heads, slice_.replay, sizes, spread, 30)
    grads = slice_.gradients(sizes, values)
    m, _ = slice_.moments(site, sizes, values)
    like = _match(m, values[hm])
    if like is None:
        return KlProbe("other", reason="the mean is not an element-wise function of its head")
    (a, _), res = fit(grads[hm].flatten(), [like.flatten(), torch.ones(like.numel(), dtype=torch.float64)])
    if res < 1e-5 and a != 0:
        return KlProbe("sign" if a < 0 else "mean_only", a, reason="only the part of the mean could be measured")
    return KlProbe("other", reason="its gradient is not that of a Gaussian KL")


def _judge_stationary(slice_: Slice, site: Site, p: _Points, sizes: Mapping[str, int], a: float, res_m: float) -> KlProbe:
    """Not of any known form.

    A Gaussian KL in the mean whose part in the scale has no minimum is a wrong formula; the rest is another term.
    """
    if res_m < _TOLERANCE and a != 0 and not slice_.others and not slice_.draws:
        columns = [p.s**k for k in (1, 2, 4)] + [torch.ones_like(p.s), p.s**-2, p.hs, p.hs**2, p.hs.exp(), p.m**2]
        _, res = fit(p.gt, columns)
        if res < 1e-5:
            return KlProbe("wrong", a, {"m": 1.0}, reason="its part in the scale is not that of a Gaussian KL")
    return KlProbe("other", reason="its gradients are not those of a Gaussian KL")
