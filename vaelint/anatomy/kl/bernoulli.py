"""The KL of Bernoulli latents, held against the closed form.

For q = Bernoulli(sigmoid(a)) and p = Bernoulli(sigmoid(c)), KL = q (log q - log p) + (1 - q) (log(1 - q) - log(1 - p)), so
dKL/da = sigmoid'(a) (a - c) (Maddison et al. 2017, section 3, with the discrete KL in the place of the relaxed one).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import fx

from vaelint.anatomy.kl.readings import fit
from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.terms import Term
from vaelint.anatomy.posterior.sites import Site
from vaelint.late import dataclass
from vaelint.replay.replay import Replay, gradients


@dataclass(frozen=True)
class BernoulliFit:
    """A term as `weight * KL(q || Bernoulli(prior))`."""

    weight: float
    prior: float


def fit_bernoulli(
    term: Term, site: Site, loss: fx.Node, replay: Replay, sizes: Mapping[str, int], even: float = 0.0
) -> BernoulliFit | None:
    """Runs the term on random heads, read as logits and as probabilities; None where it is no such KL. Raises `ReplayError`."""
    sampled = _slopes(term, site, loss, replay, sizes, even)
    if sampled is None:
        return None
    h, g = sampled
    width = torch.sigmoid(h) * torch.sigmoid(-h)
    for columns in ([width * h, width], [torch.logit(h), torch.ones_like(h)]):
        (a, b), residual = fit(g, columns)
        if residual < 1e-5 and a != 0:
            return BernoulliFit(a, float(torch.sigmoid(torch.tensor(-b / a))))
    return None


def is_half(term: Term, site: Site, loss: fx.Node, replay: Replay, sizes: Mapping[str, int]) -> bool:
    """Whether a term is q (log q - log p) or (1 - q) (log(1 - q) - log(1 - p)) alone: one value is left out. Raises `ReplayError`."""
    sampled = _slopes(term, site, loss, replay, sizes, 0.0)
    if sampled is None:
        return False
    h, g = sampled
    width = torch.sigmoid(h) * torch.sigmoid(-h)
    for log_q, sign in ((torch.nn.functional.logsigmoid(h), 1), (torch.nn.functional.logsigmoid(-h), -1)):
        (a, _), residual = fit(g, [width * log_q, width])
        if residual < 1e-5 and sign * a > 0:
            return True
    return False


def _slopes(
    term: Term, site: Site, loss: fx.Node, replay: Replay, sizes: Mapping[str, int], even: float
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Random heads between 0 and 1, and d loss / d head there, of the elements that have one."""
    if len(site.heads) != 1:
        return None
    head = site.heads[0]
    quiet = silence_others(term, replay, sizes)
    heads, slopes = [], []
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        h = 0.05 + 0.9 * torch.rand(replay.shape_of(head, sizes), dtype=torch.float64, generator=generator)
        leaf = h.clone().requires_grad_()
        out = replay([loss], {**quiet, head: leaf.clone()}, sizes, even=even)[loss]
        if not isinstance(out, torch.Tensor) or not out.requires_grad:
            return None
        (g,) = gradients(out, [leaf])
        if g is None:
            return None
        heads.append(h.flatten())
        slopes.append(g.flatten())
    h, g = torch.cat(heads), torch.cat(slopes)
    used = g != 0
    h, g = h[used], g[used]
    if h.numel() < 6:
        return None
    return h, g
