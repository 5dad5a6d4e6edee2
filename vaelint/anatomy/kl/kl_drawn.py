"""A KL estimated at the draw: log q(z) - log p(z) at z = m + s e."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from vaelint.anatomy.kl.kl_families import LAPLACE
from vaelint.anatomy.kl.kl_points import Points, match, points_of, values_of
from vaelint.anatomy.kl.kl_probe import KlProbe
from vaelint.anatomy.kl.kl_slice import Slice
from vaelint.anatomy.kl.readings import agree, fit
from vaelint.anatomy.posterior.sites import Site


def judge_drawn(slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float) -> KlProbe:
    """log q(z) - log p(z) at z = m + s e: dL/dm = z, dL/dlog s = z s e - 1."""
    m_all, z_all, g_all = [], [], []
    for seed in range(3):
        values = values_of(slice_.heads, slice_.replay, sizes, spread, 20 + seed)
        grads = slice_.gradients(sizes, values, seed=seed)
        overrides = slice_.overrides(sizes, values, 0.3, None, seed)
        z = slice_.replay([site.z], overrides, sizes)[site.z]
        hm = site.mu_heads[0]
        like = match(z, values[hm])
        if like is None or z.numel() != grads[hm].numel():
            return KlProbe("other", monte_carlo=True, reason="several samples of z per posterior")
        m_all.append(values[hm].flatten())
        z_all.append(like.flatten())
        g_all.append(grads[hm].flatten())
    if slice_.after:
        return _any_prior(slice_, site, sizes, spread)
    g, z = torch.cat(g_all), torch.cat(z_all)
    (a, b), res = fit(g, [z, torch.ones_like(z)])
    if res < 1e-5:
        if not slice_.others and _closed_form_at_draw(slice_, site, sizes, spread, a):
            return KlProbe("wrong", a, monte_carlo=True, reason="the closed form is given the draw z where it wants the mean")
        prior, apart = (0.0, 1.0), False
        if slice_.others:  # the slope holds the weight and the learned prior's variance in one
            w = drawn_weight(slice_, site, sizes, spread)
            if w is None or w / a <= 0:
                return KlProbe("other", monte_carlo=True, reason="its weight and the learned prior's variance could not be told apart")
            prior, a = (-b / a, math.sqrt(w / a)), w
        elif (w := drawn_weight(slice_, site, sizes, spread)) is not None:
            apart = not agree(a, w)
        elif _is_another_penalty(slice_, site, sizes, spread, a):
            return KlProbe("other", a, monte_carlo=True, reason="its part in the scale is not that of log q(z)")
        if a > 0 and not slice_.others and _entropy_is_charged(slice_, site, sizes, spread, a):
            reason = "log q(z) enters with the wrong sign: it is the entropy that is charged for"
            return KlProbe("wrong", a, monte_carlo=True, reason=reason, entropy=True)
        return KlProbe("sign" if a < 0 else "monte_carlo", a, prior=prior, monte_carlo=True, apart=apart)
    (a, _), res = fit(g, [torch.cat(m_all), torch.ones_like(z)])
    if res < 1e-5 and a > 0 and _entropy_alone(slice_, site, sizes, spread):
        return KlProbe("at_mean", a, monte_carlo=True, reason="log p is taken at the posterior's mean, log q at the draw")
    (a,), res = fit(g, [LAPLACE.score(z)])
    if res < 1e-5:
        return KlProbe("sign" if a < 0 else "monte_carlo", a, monte_carlo=True, reason="the prior is a Laplace distribution")
    return _any_prior(slice_, site, sizes, spread)


def _closed_form_at_draw(slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float, weight: float) -> bool:
    """Whether the term is w (z^2 + s^2 - 1 - log s^2) / 2 with z = m + s e, which counts the variance twice: what `drawn_weight` measures
    is w for an estimate and w (1 - s^2) here."""
    found = _estimates(slice_, site, sizes, spread)
    if found is None:
        return False
    s, w = (torch.cat(parts) for parts in zip(*found, strict=True))
    return bool(((w - weight * (1 - s.square())).abs() < 1e-5 * abs(weight) * (1 + s.square())).all())


def _is_another_penalty(slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float, weight: float) -> bool:
    """Whether what the scale costs beside log p(z) moves with the scale: log q(z) has -log s there, whatever its weight."""
    found = _estimates(slice_, site, sizes, spread)
    if found is None:
        return False
    w = torch.cat([value for _, value in found])
    return bool(w.isfinite().all()) and float(w.max() - w.min()) > 0.1 * abs(weight)


def _entropy_is_charged(slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float, weight: float) -> bool:
    """Whether -log p(z) is right and log s is added to it: the weight that the scale's part has is minus that of the mean's."""
    w = drawn_weight(slice_, site, sizes, spread)
    return w is not None and abs(w / weight + 1) < 1e-4


def _entropy_alone(slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float) -> bool:
    """Whether the term moves with the scale by -log s alone, as log q(m + s e) does."""
    points = points_of(slice_, site, sizes, spread, 0.3, 0)
    if points is None:
        return False
    slope = points.gt
    return bool((slope < 0).all()) and float(slope.max() - slope.min()) < 1e-5 * float(slope.abs().max())


def _any_prior(slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float) -> KlProbe:
    """Against a density that is no single Gaussian: a mixture, or one that is reached through learned layers, as a flow's is."""
    w = drawn_weight(slice_, site, sizes, spread)
    if w is None and (stopped := stopped_weight(slice_, site, sizes, spread)) is not None:
        said = "log q(z) is evaluated at stopped posterior parameters (Roeder et al. 2017)"
        return KlProbe("sign" if stopped < 0 else "monte_carlo", stopped, monte_carlo=True, reason=said, stopped=True)
    if w is None:
        return KlProbe(
            "other", monte_carlo=True, reason="a Monte Carlo estimate that is not log q(z) - log p(z) with one weight for all samples"
        )
    return KlProbe("sign" if w < 0 else "drawn", w, monte_carlo=True, flow=bool(slice_.after))


def drawn_weight(slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float, even: float = 0.0) -> float | None:
    """The weight w of log q(z) - log p(z) against any prior density, at z = m + s e.

    dL/dm = -w p'/p and dL/dlog s = -w (1 + s e p'/p), so that dL/dm (z - m) - dL/dlog s = w, whatever p is: another Gaussian, a mixture,
    the image of a Gaussian under a flow. None where the moments are not element-wise functions of one head each.
    """
    found = _estimates(slice_, site, sizes, spread, even)
    if found is None:
        return None
    w = torch.cat([value for _, value in found])
    used = w[w.abs() > 1e-9 * w.abs().max()]  # the rest is masked, or below its free bits
    if 3 * used.numel() < w.numel():
        return None
    mean = float(used.mean())
    return mean if mean and float((used - mean).abs().max()) < 1e-4 * abs(mean) else None


def stopped_weight(slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float, even: float = 0.0) -> float | None:
    """The weight w of log q(z) - log N(z; 0, 1) where the moments inside q have no gradient of their own: dL/dm = w (z - (z - m) / s^2)."""
    g_all, z_all, pull_all = [], [], []
    for points, z in _drawn(slice_, site, sizes, spread, even):
        g_all.append(points.gm)
        z_all.append(z)
        pull_all.append((z - points.m) / points.s.square())
    if not g_all:
        return None
    (a, b), res = fit(torch.cat(g_all), [torch.cat(z_all), torch.cat(pull_all)])
    return a if res < 1e-5 and abs(a + b) < 1e-4 * abs(a) else None


def _estimates(
    slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float, even: float = 0.0
) -> list[tuple[torch.Tensor, torch.Tensor]] | None:
    """s and dL/dm (z - m) - dL/dlog s, over the elements of three draws."""
    drawn = _drawn(slice_, site, sizes, spread, even)
    return [(p.s, p.gm * (z - p.m) - p.gt) for p, z in drawn] or None


def _drawn(slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float, even: float = 0.0) -> list[tuple[Points, torch.Tensor]]:
    """Three draws: the moments with their gradients, and z at the same elements. Empty where they cannot be laid side by side."""
    found = []
    for seed in range(3):
        points = points_of(slice_, site, sizes, spread, 0.3, seed, even)
        if points is None or points.used is None:
            return []
        values = values_of(slice_.heads, slice_.replay, sizes, spread, 10 + seed)
        z = match(slice_.replay([site.z], slice_.overrides(sizes, values, 0.3, None, seed), sizes)[site.z], values[site.mu_heads[0]])
        if z is None or z.numel() != points.used.numel():
            return []
        found.append((points, z.detach().flatten()[points.used.flatten()]))
    return found
