"""Whether log q(z) of a Monte Carlo KL has the scale that z was drawn with.

At z = m + s e, with p = N(0, 1) and the density of q taken at another scale t, L = -log t - (z - m)^2 / (2 t^2) + z^2 / 2 + const. With
u = d log t / d log s, dL / d log s = -u + (u - 1) (z - m)^2 / t^2 + z (z - m); for t = s this is z (z - m) - 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.kl.kl_slice import Slice, loose_ends
from vaelint.anatomy.loss.facts import KlFact
from vaelint.anatomy.posterior.sites import Site
from vaelint.replay.replay import ReplayError, gradients

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_OF_HEAD: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "log-std": lambda h: h,
    "logvar": lambda h: h / 2,
    "std (softplus)": lambda h: torch.nn.functional.softplus(h).log(),
    "std": lambda h: h.abs().log(),
}
_OF_SCALE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "variance": lambda s: s.log() / 2,
    "log-std": lambda s: s,
    "logvar": lambda s: s / 2,
    "std, squared": lambda s: 2 * s.log(),
}
"""log t as a function of the head, and of the sampler's scale itself."""
_TOLERANCE = 1e-4


def other_scale(model: Model, fact: KlFact) -> str | None:
    """How a Monte Carlo KL reads the head, where that is another way than the sampler's; None where it agrees or cannot be told."""
    site, loss = fact.site, model.record.loss
    if fact.probe.verdict != "monte_carlo" or site is None or loss is None or site.kind != "gaussian" or fact.probe.prior != (0.0, 1.0):
        return None
    if len(site.mu_heads) != 1 or len(site.scale_heads) != 1 or site.mu_heads == site.scale_heads:
        return None
    slice_ = loose_ends(fact.term, loss, model.sites, model.flow, model.replay)
    if slice_.others or not slice_.draws:
        return None
    try:
        names = [_reading(slice_, site, {**model.symbols, "B": 3}, seed) for seed in range(3)]
    except ReplayError:
        return None
    return names[0] if len(set(names)) == 1 else None


def _reading(slice_: Slice, site: Site, sizes: dict[str, int], seed: int) -> str | None:
    generator = torch.Generator().manual_seed(seed)
    values = {h: 0.3 + torch.rand(slice_.replay.shape_of(h, sizes), dtype=torch.float64, generator=generator) for h in slice_.heads}
    hm, hs = site.mu_heads[0], site.scale_heads[0]
    grads = slice_.gradients(sizes, values, seed=seed)
    leaves: dict[fx.Node, torch.Tensor] = {h: v.clone().requires_grad_() for h, v in values.items()}
    m, s = slice_.moments(site, sizes, {h: v.clone() for h, v in leaves.items()})
    z = slice_.replay([site.z], slice_.overrides(sizes, values, 0.3, None, seed), sizes)[site.z]
    if s is None or not z.shape == m.shape == s.shape == values[hs].shape == values[hm].shape:
        return None
    (dm,), (ds,) = gradients(m, [leaves[hm]], retain=True), gradients(s.log(), [leaves[hs]], retain=True)
    if dm is None or ds is None or not bool((dm.abs() > 1e-9).all() and (ds.abs() > 1e-9).all()):
        return None
    slope = grads[hm] / dm
    weight = float((slope * z).sum() / (z * z).sum())
    if not weight:
        return None
    measured = grads[hs] / ds / weight
    error = (z - m.detach()) ** 2
    base = z * (z - m.detach())
    if _alike(measured, base - 1):
        return None
    for name, log_t in ((n, f(leaves[hs])) for n, f in _OF_HEAD.items()):
        if _alike(measured, _expected(log_t, leaves[hs], ds, error, base)):
            return name
    for name, log_t in ((n, f(s)) for n, f in _OF_SCALE.items()):
        if _alike(measured, _expected(log_t, leaves[hs], ds, error, base)):
            return name
    return None


def _expected(log_t: torch.Tensor, head: torch.Tensor, ds: torch.Tensor, error: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    (slope,) = gradients(log_t, [head], retain=True)
    u = (slope if slope is not None else torch.zeros_like(head)) / ds
    return -u + (u - 1) * error / (2 * log_t.detach()).exp() + base


def _alike(measured: torch.Tensor, expected: torch.Tensor) -> bool:
    return float((measured - expected).abs().max()) <= _TOLERANCE * float(measured.abs().max())
