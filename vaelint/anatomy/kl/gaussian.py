"""What the KL term is: measured by its gradients on chosen posteriors, never by its spelling.

For q = N(m, s^2) and p = N(0, 1), KL = (m^2 + s^2 - 1 - log s^2) / 2 (Kingma & Welling 2014, appendix B), so dKL/dm = m and
dKL/dlog s = s^2 - 1. A term whose gradients are `w` times these *is* `w * KL`, however it is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import fx

from vaelint.anatomy.kl.kl_distance import is_distance
from vaelint.anatomy.kl.kl_drawn import judge_drawn
from vaelint.anatomy.kl.kl_families import GAUSSIAN, Family, family_of
from vaelint.anatomy.kl.kl_offset import beside_a_fixed_prior, mean_of_prior_is_added, prior_is_off, with_constant
from vaelint.anatomy.kl.kl_points import Points, match, points_at, random_points, values_of
from vaelint.anatomy.kl.kl_probe import KlProbe
from vaelint.anatomy.kl.kl_slice import Slice, value_near
from vaelint.anatomy.kl.kl_whole import correlated_weight, fit_whole
from vaelint.anatomy.kl.learned_prior import slipped_factor
from vaelint.anatomy.kl.readings import (
    READINGS,
    SCALE_READINGS,
    SOFTENED,
    VARIANCE_READINGS,
    agree,
    fit,
    partly_read,
    read_against_wide_prior,
)
from vaelint.anatomy.posterior.sites import Site
from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.record.record import route, shape
from vaelint.replay.replay import NOT_ALONE, ReplayError

_TOLERANCE = 1e-6
_NOTHING = 1e-9  # a coefficient that is 0 but for rounding
_LEAST_PRIOR = 1e-6  # the least variance of a prior; a fit below it has no log-determinant to speak of


def probe_kl(slice_: Slice, sizes: Mapping[str, int]) -> list[tuple[Site | None, KlProbe]]:
    """Measures a KL term at given (small) sizes, once for each place in the source where a posterior is drawn."""
    sites = [s for s in slice_.sites if s.kind in ("gaussian", "laplace", "drawn", "noise")]
    if not sites or not slice_.heads:
        return [(None, KlProbe("other", reason="the posterior is not a Gaussian found by its draw"))]
    # one site for each way to a draw: of a loop the last turn, as its prior is no longer the start value; each caller of a shared helper
    # and of a mixture each member
    places: dict[object, Site] = {(*_way(slice_, s), sum(t.z is s.z for t in sites[:i])): s for i, s in enumerate(sites)}
    found: list[tuple[Site | None, KlProbe]] = []
    seen: set[tuple[fx.Node, ...]] = set()
    for site in places.values():
        if site.heads in seen:
            continue  # another draw of the same posterior
        seen.add(site.heads)
        try:
            found.append((site, _probe(slice_, site, sizes)))
        except ReplayError:
            found.append((site, KlProbe("unknown", reason=NOT_ALONE)))
    return found


def _way(slice_: Slice, site: Site) -> tuple[object, ...]:
    """The way to a draw; where draws and loss are made within one call of a library's, the draw's sizes as well: it has no lines there."""
    way = route(site.z)
    within = way and way == route(slice_.loss)
    return (way, slice_.replay.texts_of(site.z)) if within else (way,)


def _probe(slice_: Slice, site: Site, sizes: Mapping[str, int]) -> KlProbe:
    probe = _probed(slice_, site, sizes)
    if probe.verdict == "inverted_floor" and _weighed_by_draws(slice_):
        return KlProbe("other", reason="it is weighed draw by draw: a draw of no weight has no gradient")
    if probe.verdict == "inverted_floor" and _drives_dreams_away(slice_, site, sizes):
        return KlProbe("other", reason="it falls as the KL of what was generated grows, and comes to rest")
    return probe


def _drives_dreams_away(slice_: Slice, site: Site, sizes: Mapping[str, int]) -> bool:
    """Whether the loss falls where the posterior of generated data leaves the prior: exp(-KL), or a margin less the KL (IntroVAE)."""
    if not all(h in slice_.flow.noisy for h in site.heads):
        return False
    values = values_of(slice_.heads, slice_.replay, sizes, 0.05, 3)
    grads = slice_.gradients(sizes, values)
    return sum(float((grads[h] * values[h]).sum()) for h in site.mu_heads) < 0


def _weighed_by_draws(slice_: Slice) -> bool:
    """Whether an addend is multiplied with something that the draws are in, as importance weights are."""
    flow = slice_.flow
    for leaf in slice_.term.leaves:
        path = {leaf.node, *leaf.chain}
        for link in leaf.chain:
            if ops.op(link) in ops.MUL and any(n in flow.noisy and n not in path and shape(n) for n in ops.value_inputs(link)):
                return True
    return False


def _probed(slice_: Slice, site: Site, sizes: Mapping[str, int]) -> KlProbe:
    small, middle, large = (_zero_share(slice_, site, sizes, spread) for spread in (0.4, 2.0, 8.0))
    if small == middle == large == 1.0:
        if _zero_share(slice_, site, sizes, 0.05) < 1.0:  # a low ceiling: next to the prior there is a gradient
            return KlProbe("inverted_floor", reason="the gradient vanishes where the KL is large")
        return KlProbe("unknown", reason="no gradient reaches the posterior's mean through this term")
    if large > small and large > 0.2:
        return KlProbe("inverted_floor", reason="the gradient vanishes where the KL is large")
    floor = small > large
    spread = 2.0 if middle == large else 6.0
    points = None if len(site.mu_heads) != 1 or _is_full_covariance(site, slice_.flow) else points_at(slice_, site, sizes, spread)
    probe = _whole(slice_, site, sizes, spread) if points is None else _judge(slice_, site, points, sizes, spread)
    if probe.verdict == "wrong" and points is not None and _vanishes_at_prior(slice_, site, sizes, probe):
        probe = replace(probe, verdict="prior", prior=(0.0, (probe.coefficients["1"] / probe.coefficients["m"]) ** 0.5))
    if points is not None and probe.verdict == "sign" and (beyond := points_at(slice_, site, sizes, 9.0)) is not None:
        again = _judge(slice_, site, beyond, sizes, 9.0)
        if again.verdict == "exact":  # |KL - C| below its capacity
            probe = again
            probe.capacity = True
    probe.floor = floor
    if probe.verdict == "prior":
        probe = _against_prior(probe, slice_, site, sizes, spread)
    probe.learned_prior = bool(slice_.others)
    probe.family = family_of(site).name
    if points is not None and probe.verdict in ("exact", "prior") and not floor:
        near = points_at(slice_, site, sizes, 0.3)
        if not probe.capacity and near is not None and float((near.gm * near.m).sum()) * probe.weight < 0:
            probe.capacity = True
    return with_constant(probe, slice_, site, sizes)


def _against_prior(probe: KlProbe, slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float) -> KlProbe:
    """A KL to a learned prior, with what is wrong about how it reads that prior."""
    if mean_of_prior_is_added(slice_, site, sizes, spread):
        return replace(probe, verdict="wrong", reason="the mean of the prior is added to the posterior's, and not subtracted")
    if not probe.floor and beside_a_fixed_prior(slice_, site, sizes, spread):
        return replace(probe, several=True)
    if not probe.floor and prior_is_off(slice_, site, sizes, spread):
        return replace(probe, verdict="wrong", reason="its log-determinant and its error read the prior's scale differently")
    return probe


def _is_full_covariance(site: Site, flow: Flow) -> bool:
    between = flow.ancestors(site.z, stop={*site.heads, *site.noise}) & site_region(site, flow)
    return any(ops.op(n) in ("matmul", "bmm", "mm", "mv", "einsum") for n in between)


def site_region(site: Site, flow: Flow) -> set[fx.Node]:
    """The nodes between a site's noise and its z."""
    return flow.descendants(*site.noise, stop={site.z}) if site.noise else set()


def _zero_share(slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float) -> float:
    """The share of the posterior mean's elements that get no gradient when the heads lie about `spread` from 0.

    Of a KL estimated with draws, those that get none whatever was drawn: the slopes of several draws of a Laplace may cancel.
    """
    zeros: dict[fx.Node, list[torch.Tensor]] = {h: [] for h in site.mu_heads}
    for seed in (3, 4, 5) if slice_.draws else (3, 4):
        grads = slice_.gradients(sizes, values_of(slice_.heads, slice_.replay, sizes, spread, seed))
        for head, seen in zeros.items():
            seen.append(grads[head] == 0)
    if slice_.draws:
        return max((float(torch.stack(seen).all(0).double().mean()) for seen in zeros.values() if seen[0].numel()), default=1.0)
    return max((float(z.double().mean()) for seen in zeros.values() for z in seen if z.numel()), default=1.0)


def _judge(slice_: Slice, site: Site, p: Points, sizes: Mapping[str, int], spread: float) -> KlProbe:
    one = torch.ones_like(p.m)
    if slice_.draws:
        return judge_drawn(slice_, site, sizes, spread)
    masked = (p.gm != 0) | (p.gt != 0)
    if not bool(masked.all()) and bool(masked.any()):  # padding masks, floors per element
        p = Points(*(getattr(p, f)[masked] for f in ("m", "s", "gm", "gt", "hm", "hs", "ghs", "ghm")))
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
    if res_m < _TOLERANCE and (misread := _misread(p, a, bool(slice_.others))) is not None:
        return misread
    if (swapped := _swapped(p, bool(slice_.others))) is not None:
        return swapped
    if res_t < _TOLERANCE and not slice_.others and b > 0 and abs(b - c) < 1e-6 * b and _of_another_mean(p):
        return KlProbe("wrong", b, {"s2": b, "1": c}, reason="its part in the mean is not mu^2")
    return _judge_stationary(slice_, site, p, sizes, a, res_m)


def _misread(p: Points, a: float, learned_prior: bool) -> KlProbe | None:
    """A KL, right in the mean, that is exact for another reading of the scale's head, or of the scale itself; `a` is that of m in dL/dm."""
    for name, reading in READINGS.items():
        (w,), res = fit(p.ghs, [reading(p.hs)])
        if res < _TOLERANCE and abs(w - a) < 1e-6 * max(abs(a), abs(w)):
            return KlProbe("parameterisation", w, reads_as=name)
    for readings, what in ((SCALE_READINGS, "scale"), (VARIANCE_READINGS, "variance")):
        for name, slope in readings.items():
            (w,), res = fit(p.gt, [slope(p.s)])
            if res < _TOLERANCE and abs(w - a) < 1e-6 * max(abs(a), abs(w)):
                return KlProbe("parameterisation", w, reads_as=name, reason=f"the value of the {what} itself is read so")
    wide = read_against_wide_prior(p.hs, p.ghs, a)
    if wide is not None and (learned_prior or _is_prior(a, wide[1])):
        return KlProbe("parameterisation", wide[1], reads_as=wide[0], prior=(0.0, (wide[1] / a) ** 0.5))
    partial = None if learned_prior else partly_read(p.hs, p.ghs, a)
    if partial:
        return KlProbe("wrong", a, partial, reason="one part of the formula reads the head differently from the other")
    return None


def _swapped(p: Points, learned_prior: bool) -> KlProbe | None:
    """A KL that is exact where the two heads are exchanged, or in which the scale's head stands for the mean of a learned prior."""
    if not learned_prior:
        (w,), res = fit(p.ghs, [p.hs])
        for name, reading in READINGS.items():
            (v,), res_v = fit(p.ghm, [reading(p.hm)])
            if res < _TOLERANCE and res_v < _TOLERANCE and abs(w - v) < 1e-6 * max(abs(w), abs(v)):
                return KlProbe("swapped", w, reads_as=name)
        return None
    one = torch.ones_like(p.hs)
    (w, _), res = fit(p.ghs, [p.hs, one])
    read = read_against_wide_prior(p.hm, p.ghm, w) if res < _TOLERANCE else None
    if read is not None and read[1] > 0:
        return KlProbe("swapped", read[1], reads_as=read[0], learned_prior=True)
    (mine, its, _), res = fit(p.ghm, [p.hm, p.hs, one])
    if res < _TOLERANCE and mine > 0 and agree(mine, -its) and float((p.ghm + p.ghs).abs().max()) <= _TOLERANCE * float(p.ghm.abs().max()):
        return KlProbe("swapped", mine, learned_prior=True, reason="the scale's head is used as the mean of the prior")
    return None


def _of_another_mean(p: Points) -> bool:
    """Whether the slope in the mean is that of |m|, m, |m|^3, m^4 or exp(m), of one weight throughout."""
    columns = (p.m.sign(), torch.ones_like(p.m), p.m * p.m.abs(), p.m**3, p.m.exp())
    return any(fit(p.gm, [column])[1] < _TOLERANCE for column in columns)


def _vanishes_at_prior(slice_: Slice, site: Site, sizes: Mapping[str, int], probe: KlProbe) -> bool:
    """Whether a term whose parts have the proportions of a KL to a prior of another scale is 0 at that prior, as a KL is."""
    known = probe.coefficients
    if set(known) != {"m", "s2", "1"} or abs(known["m"] - known["s2"]) > 1e-6 * abs(known["m"]) or known["m"] * known["1"] <= 0:
        return False
    wanted = (known["1"] / known["m"]) ** (1 / family_of(site).power)
    value, scale = value_near(slice_, site, sizes, wanted)
    return scale is not None and abs(value) <= 1e-6 * abs(known["1"])


def _judge_family(p: Points, family: Family) -> KlProbe:
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
        points = points_at(slice_, site, sizes, spread, fill)
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


def _fit_shifted(p: Points) -> tuple[list[float], float]:
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
    if learned_prior and same(a, b) and a > 0 > c and abs(c) > SOFTENED * biggest:  # at no prior is log s rewarded, as a KL does
        return KlProbe("wrong", a, coefficients, reason="the logarithm of the posterior's scale enters with the wrong sign")
    if learned_prior and same(a, b):
        return KlProbe(
            "unknown", c, coefficients, reason="the prior is learned, and at the point that was probed the term is not the KL to it"
        )
    return KlProbe("wrong", c if plausible else a, coefficients)


def _is_prior(a: float, c: float) -> bool:
    """Whether c/a is a plausible prior variance rather than a slipped factor 2.

    After such a slip the KL weighs log s by a power of two it should not have.
    """
    ratio = c / a
    return not any(abs(ratio - slip) < 1e-6 for slip in (2.0, 0.5)) or abs(abs(c) - 1) < 1e-6


def _whole(slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float) -> KlProbe:
    """Full covariance, or heads that are mixed: held against the closed form as a function of all heads, else in the mean alone."""
    if site.kind == "gaussian" and not slice_.draws:
        found = fit_whole(slice_, site, sizes, random_points(slice_, sizes, min(spread, 2.0)))
        if found is not None:
            a, a0, b, c = found
            judged = replace(_judge_coefficients(a, a0, b, c, bool(slice_.others)), whole=True)
            if judged.verdict != "wrong" or min(map(abs, (a, b, c))) > _NOTHING * max(map(abs, (a, b, c))):
                return judged  # else a part that is missing may stand in a term of its own
        w = correlated_weight(slice_, site, sizes, random_points(slice_, sizes, min(spread, 2.0))) if len(site.heads) > 1 else None
        if w and abs(w) > _NOTHING:
            return KlProbe("sign" if w < 0 else "prior", w, whole=True, correlated=True)
    if slice_.draws and len(site.mu_heads) == 1 and not slice_.after:
        return judge_drawn(slice_, site, sizes, spread)
    return _mean_only(slice_, site, sizes, spread)


def _mean_only(slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float) -> KlProbe:
    """Full covariance, a fixed scale, or heads that are mixed: only dL/dm can be held against the KL."""
    if not site.mu_heads or len(site.mu_heads) != 1 or slice_.draws:
        return KlProbe("other", monte_carlo=bool(slice_.draws), reason="the posterior's mean is made of several values")
    hm = site.mu_heads[0]
    values = values_of(slice_.heads, slice_.replay, sizes, spread, 30)
    grads = slice_.gradients(sizes, values)
    m, _ = slice_.moments(site, sizes, values)
    like = match(m, values[hm])
    if like is None:
        return KlProbe("other", reason="the mean is not an element-wise function of its head")
    (a, _), res = fit(grads[hm].flatten(), [like.flatten(), torch.ones(like.numel(), dtype=torch.float64)])
    if res < 1e-5 and a != 0:
        return KlProbe("sign" if a < 0 else "mean_only", a, reason="only the part of the mean could be measured")
    each = grads[hm].flatten(1) / like.reshape(grads[hm].shape).flatten(1) if grads[hm].dim() > 1 else torch.ones(1, 1)
    if each.shape[1] > 1 and bool(((each - each[:, :1]).abs() <= 1e-6 * each.abs().max()).all()):
        return KlProbe("other", reason="each sample weighs it with a number of its own")
    return KlProbe("other", reason="its gradient is not that of a Gaussian KL")


def _judge_stationary(slice_: Slice, site: Site, p: Points, sizes: Mapping[str, int], a: float, res_m: float) -> KlProbe:
    """Not of any known form.

    A Gaussian KL in the mean whose part in the scale has no minimum is a wrong formula; the rest is another term.
    """
    if res_m < _TOLERANCE and a != 0 and not slice_.others and not slice_.draws:
        columns = [p.s**k for k in (1, 2, 4)] + [torch.ones_like(p.s), p.s**-2, p.hs, p.hs**2, p.hs.exp(), p.m**2]
        _, res = fit(p.gt, columns)
        if res < 1e-5:
            if is_distance(slice_, site, sizes):
                return KlProbe("other", distance=True, reason="not a KL: another distance to N(0, 1)")
            return KlProbe("wrong", a, {"m": 1.0}, reason="its part in the scale is not that of a Gaussian KL")
    return KlProbe("other", reason="its gradients are not those of a Gaussian KL")
