"""Penalties that see the whole minibatch at once: the KL taken apart (beta-TC-VAE), the covariance of the codes (DIP-VAE).

With q(z) the mean of the minibatch's posteriors and q_j its marginals, the KL to N(0, I) is, on average over the batch,
[log q(z|x) - log q(z)] + [log q(z) - sum_j log q_j(z_j)] + [sum_j log q_j(z_j) - log p(z)]: index-code mutual information, total
correlation, dimension-wise KL (Chen et al. 2018, equation 2). With C the covariance of the means (plus, for DIP-VAE-II, the mean of the
variances) the penalty is lambda_od sum_{i != j} C_ij^2 + lambda_d sum_i (C_ii - 1)^2 (Kumar et al. 2018, equations 6 and 7). Both are
linear in their weights, which are fitted to measured values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import fx

from vaelint.anatomy.kl.kl_points import values_of
from vaelint.anatomy.kl.kl_slice import Slice
from vaelint.anatomy.kl.readings import fit
from vaelint.anatomy.posterior.sites import Site
from vaelint.late import dataclass
from vaelint.replay.replay import ReplayError

_DRAWS = 12
_TOLERANCE = 1e-7


@dataclass(frozen=True)
class BatchFit:
    """A penalty on the minibatch: its kind, and its weights by the names of the paper."""

    kind: str  # "total_correlation", "dip_i", "dip_ii"
    weights: dict[str, float]


@dataclass(frozen=True)
class _Sample:
    value: float
    m: torch.Tensor  # (B, L)
    s: torch.Tensor
    z: torch.Tensor


def mixes_samples(slice_: Slice, sizes: Mapping[str, int]) -> bool:
    """Whether the gradient at one sample's heads moves with another sample's: asked of the values. Raises `ReplayError`."""
    here = values_of(slice_.heads, slice_.replay, sizes, 1.0, 71)
    there = {}
    for h, v in here.items():
        axis = _batch_axis(slice_, h)
        if axis is None or v.shape[axis] < 2:
            return False
        changed = v * 1.3 + 0.2
        changed.select(axis, 0).copy_(v.select(axis, 0))
        there[h] = changed
    first, second = (slice_.gradients(sizes, values, seed=71) for values in (here, there))
    for h in slice_.heads:
        axis = _batch_axis(slice_, h)
        assert axis is not None
        a, b = first[h].select(axis, 0), second[h].select(axis, 0)
        if float((a - b).abs().max()) > 1e-6 * float(first[h].abs().max() + 1e-12):
            return True
    return False


def _batch_axis(slice_: Slice, node: fx.Node) -> int | None:
    texts = slice_.replay.texts_of(node)
    return texts.index("B") if "B" in texts else None


def fit_total_correlation(slice_: Slice, site: Site, sizes: Mapping[str, int]) -> BatchFit | None:
    """alpha, beta and gamma of the decomposition, and the weight of a closed KL beside it; None where the term is no sum of these."""
    samples = _samples(slice_, site, sizes)
    if samples is None:
        return None
    rows = torch.stack([torch.stack([*_log_densities(p), _closed(p)]) for p in samples])
    columns = [*rows.unbind(1), torch.ones(len(samples), dtype=torch.float64)]
    (a, b, c, d, kl, _), residual = fit(torch.tensor([p.value for p in samples], dtype=torch.float64), columns)
    top = max(abs(x) for x in (a, b, c, d, kl))
    if residual > _TOLERANCE or abs(a + b + c + d) > 1e-5 * top:
        return None
    found = {"alpha": a, "beta": a + b, "gamma": -d, "kl": kl}
    return BatchFit("total_correlation", {k: v if abs(v) > 1e-6 * top else 0.0 for k, v in found.items()})


def fit_covariance(slice_: Slice, site: Site, sizes: Mapping[str, int]) -> BatchFit | None:
    """lambda_od and lambda_d of DIP-VAE, of either type; None where the term is no such penalty."""
    samples = _samples(slice_, site, sizes)
    if samples is None:
        return None
    target = torch.tensor([p.value for p in samples], dtype=torch.float64)
    one = torch.ones(len(samples), dtype=torch.float64)
    for kind in ("dip_i", "dip_ii"):
        for divisor in (0, 1):
            covariances = [_covariance(p, kind == "dip_ii", divisor) for p in samples]
            off = torch.stack([c.square().sum() - c.diagonal().square().sum() for c in covariances])
            diagonal = torch.stack([(c.diagonal() - 1).square().sum() for c in covariances])
            (a, b, _), residual = fit(target, [off, diagonal, one])
            if residual < _TOLERANCE:
                return BatchFit(kind, {"lambda_od": a, "lambda_d": b})
    return None


def _samples(slice_: Slice, site: Site, sizes: Mapping[str, int]) -> list[_Sample] | None:
    """The term's value with the moments and the draw it was taken at; None where the latent is no matrix of samples and codes."""
    found = []
    for seed in range(_DRAWS):
        values = values_of(slice_.heads, slice_.replay, sizes, 0.8, 90 + seed)
        overrides = slice_.overrides(sizes, values, 0.3, None, seed)
        got = slice_.replay([slice_.loss, site.z], overrides, sizes)
        m, s = slice_.moments(site, sizes, values)
        z = got[site.z]
        if s is None or m.dim() != 2 or m.shape != s.shape or z.shape != m.shape or m.shape[0] < 2:
            return None
        found.append(_Sample(float(got[slice_.loss].sum()), m.detach(), s.detach(), z.detach()))
    return found


def _log_densities(p: _Sample) -> tuple[torch.Tensor, ...]:
    """Sums over the batch of log q(z|x), log q(z), sum_j log q_j(z_j) and log p(z), constants left out."""
    pairs = -0.5 * ((p.z.unsqueeze(1) - p.m) / p.s).square() - p.s.abs().log()  # (B, B, L): every draw under every posterior
    own = -0.5 * ((p.z - p.m) / p.s).square() - p.s.abs().log()
    return own.sum(), pairs.sum(2).logsumexp(1).sum(), pairs.logsumexp(1).sum(), -0.5 * p.z.square().sum()


def _closed(p: _Sample) -> torch.Tensor:
    return 0.5 * (p.m.square() + p.s.square() - 1 - 2 * p.s.abs().log()).sum()


def _covariance(p: _Sample, with_variances: bool, divisor: int) -> torch.Tensor:
    centred = p.m - p.m.mean(0)
    covariance = centred.t() @ centred / max(p.m.shape[0] - divisor, 1)
    return covariance + torch.diag(p.s.square().mean(0)) if with_variances else covariance


def measured_weight(fitted: BatchFit | None, name: str) -> float:
    """One weight of a fit made at other sizes; raises `ReplayError` where the term was no such penalty there."""
    if fitted is None or not math.isfinite(fitted.weights[name]):
        raise ReplayError("the penalty has another form at these sizes")
    return fitted.weights[name]
