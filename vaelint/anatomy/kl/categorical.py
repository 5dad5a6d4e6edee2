"""The KL of a categorical posterior, held against the closed form.

KL(q || p) = sum_k q_k (log q_k - log p_k), with sum_k p_k = 1; log p_k = -log K for the uniform prior over K classes (Jang et al. 2017,
section 3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.kl.readings import fit
from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.terms import Term
from vaelint.anatomy.posterior.sites import Site, before_normalising
from vaelint.late import dataclass
from vaelint.replay.replay import Replay

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class CategoricalFit:
    """A term as `weight * sum q (log q - log p)`: its weight, and the total mass of p, which is 1 for a KL.

    `logits_for_logs` when logits stand where log q should.
    """

    weight: float
    mass: float = 1.0
    logits_for_logs: bool = False
    fault: str = ""  # a form that is told and is no KL to a prior
    is_entropy: bool = False  # the constant of the prior is left out: the same gradients, and a value that is log K less


def categorical_site(term: Term) -> Site | None:
    """The one categorical posterior of a term."""
    sites = [s for s in term.sites if s.kind == "categorical" and s.mu is not None and s.heads]
    return sites[0] if len(sites) == 1 else None


def fit_categorical(
    term: Term,
    site: Site,
    loss: fx.Node,
    replay: Replay,
    sizes: Mapping[str, int],
    even: float = 0.0,
    put: Mapping[fx.Node, torch.Tensor] | None = None,
) -> CategoricalFit | None:
    """Runs the term on random logits and fits it, with further values that are `put`; None where it is no function of that form. Raises
    `ReplayError`."""
    assert site.mu is not None
    head, axis, given = site.heads[0], _class_axis(site), before_normalising(site.mu)
    still = {head: torch.zeros(replay.shape_of(head, sizes), dtype=torch.float64)}
    classes = int(replay([site.mu], still, sizes)[site.mu].shape[axis])
    if classes < 2:
        return None
    rows, values = [], []
    generator = torch.Generator().manual_seed(1)
    quiet = {**silence_others(term, replay, sizes), **(put or {})}
    for i in range(3 * classes + 6):
        logits = (0.3 + 0.4 * (i % 6)) * torch.randn(replay.shape_of(head, sizes), dtype=torch.float64, generator=generator)
        got = replay([loss, site.mu, given], {**quiet, head: logits}, sizes, even=even)
        raw = got[site.mu].movedim(axis, -1)
        if raw.shape[-1] != classes:
            return None  # the number of classes moves with a size
        q = torch.softmax(raw, dim=-1)
        log_q, twice = torch.log_softmax(raw, dim=-1), torch.softmax(q, dim=-1)
        rows.append(
            ((q * log_q).sum(), (q * got[given].movedim(axis, -1)).sum(), q.flatten(0, -2).sum(0), log_q.sum(), (twice * twice.log()).sum())
        )
        values.append(got[loss].sum())
    f = torch.stack(values)
    entropy, linear = torch.stack([r[0] for r in rows]), torch.stack([r[1] for r in rows])
    shares = [torch.stack([r[2][k] for r in rows]) for k in range(classes)]
    coefficients, residual = fit(f, [entropy, *shares])
    if residual < 1e-6 and coefficients[0] != 0:
        weight = coefficients[0]
        bare = all(abs(c / weight) < 1e-6 for c in coefficients[1:])
        return CategoricalFit(
            weight, sum(math.exp(-c / weight) for c in coefficients[1:]), is_entropy=bare
        )  # exp(-c_k / w): class k's prior
    coefficients, residual = fit(f, [linear, *shares])
    if residual < 1e-6:
        return CategoricalFit(coefficients[0], logits_for_logs=True)
    for column, sign, fault in ((3, -1, _REVERSED), (4, 1, _TWICE)):
        (w, _), residual = fit(f, [sign * torch.stack([r[column] for r in rows]), torch.ones_like(f)])
        if residual < 1e-6 and w > 0:
            return CategoricalFit(w, fault=fault)
    return None


_REVERSED = "it is KL(uniform || q), the other direction"
_TWICE = "its logits are probabilities: softmax is taken twice"


def _class_axis(site: Site) -> int:
    """The axis of the classes: what `gumbel_softmax` was told, else the last."""
    told = site.roots[0].kwargs.get("dim", site.roots[0].args[4] if len(site.roots[0].args) > 4 else -1)
    return told if isinstance(told, int) else -1
