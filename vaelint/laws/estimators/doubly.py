"""Law C5, for doubly reparameterised bounds: a path that is weighed by squared shares is the whole gradient.

Prediction: where the gradient that reaches the encoder through the draws is weighed by the square of each draw's share, the posterior's own
numbers are held in log q. Weighed by the shares alone, path and score together are the gradient of the bound; weighed by their squares the
score no longer is what it was, and the path alone is that gradient.

Intervention: shares are read off the loss's gradient in log q. A hook on the draw that multiplies by them shows where the slope of log q
along a small step of the draw is measured, and not taken from the gradient.

Source: Tucker et al. 2019, Doubly reparameterized gradient estimators, eq. 8.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from vaelint.laws.bench import Bench
from vaelint.laws.estimators.charged import Charged
from vaelint.laws.law import Broken, law
from vaelint.rule import Found

_SAME = 0.01
_STEP = 0.02
_NEAR = 0.1
_MOST = 0.9  # of the draws


@law(
    "squared-shares-hold-the-score",
    "a path that is weighed by squared shares is the whole gradient",
    covered=("VAE422", "VAE437", "VAE442"),
)
def squared_shares_hold_the_score(bench: Bench) -> Iterator[Broken]:
    """Bounds of several draws, weighed by held shares, whose log q is not held."""
    if not bench.model.has_loss:
        return
    for charged in Charged.all_of(bench):
        weight = _each(charged)
        if weight is None or not bool((weight > 0).all()) or not charged.held_weights or not charged.has_score:
            continue
        if _adds_up(weight.sqrt()) and not _adds_up(weight):
            yield _broken(bench, charged, "log q is weighed by the square of each draw's share")
            return
        if _adds_up(weight) and _hooked(charged, weight):
            yield _broken(bench, charged, "a hook multiplies the gradient at the draw by its share once more")
            return


def _each(charged: Charged) -> torch.Tensor | None:
    """What the loss weighs log q of each draw of each sample by, (draws, samples); None where these are not two axes."""
    weight, bench = charged.weight, charged.bench
    batch = bench.batch_axis(charged.density)
    if weight is None or batch is None or weight.dim() < 2 or not charged.held_weights:
        return None
    rest = weight.movedim(batch, 0)
    while rest.dim() > 2:  # the same for all latents
        if float((rest - rest[..., :1]).abs().max()) > 1e-4 * float(rest.abs().max()):
            return None
        rest = rest[..., 0]
    return rest.movedim(0, 1) if rest.shape[1] > 1 else None


def _adds_up(shares: torch.Tensor) -> bool:
    """Whether all samples' draws have the same sum."""
    total = shares.double().sum(0)
    return float(total.max() - total.min()) <= _SAME * float(total.mean())


def _hooked(charged: Charged, weight: torch.Tensor) -> bool:
    """Whether the gradient of log q in the draw is its slope times each draw's share."""
    bench, path = charged.bench, charged.path
    if path is None:
        return False
    z, at = charged.site.z, bench.value(charged.site.z)
    step = _STEP * (at.std() + 1e-6) * torch.randn(at.shape, generator=torch.Generator().manual_seed(5)).to(at)
    low, high = (bench.after({z: at + sign * step}, [charged.density])[charged.density] for sign in (-0.5, 0.5))
    batch = bench.batch_axis(charged.density)
    if batch is None or path.shape != high.shape:
        return False
    measured, taken = (v.movedim(batch, 0).flatten(2).sum(2).T.double() for v in (high - low, path * step))
    share = weight.double() / weight.double().sum(0)
    told = measured.abs() > 0.1 * measured.abs().mean()
    ratio = taken[told] / measured[told]
    near = ((ratio - share[told]).abs() <= _NEAR * share[told] + 0.02).double().mean()
    alike = ((ratio - 1).abs() <= _NEAR).double().mean()
    return float(near) > _MOST and float(alike) < 1 - _MOST


def _broken(bench: Bench, charged: Charged, text: str) -> Broken:
    model = bench.model
    found = Found(
        charged.place,
        label="log q with the posterior's numbers live",
        labels=model.labels((charged.site.z, "drawn here"), *((w, "the shares") for w in charged.held_weights[:1])),
        why="weighed by squared shares, the score of log q does not average to what the bound has: the encoder's gradient is biased",
        help="take log q of held numbers, Normal(mu.detach(), std.detach()).log_prob(z); the draw keeps its gradient",
    )
    return Broken("biased-estimator", found, "a path that is weighed by squared shares is the whole gradient", text)
