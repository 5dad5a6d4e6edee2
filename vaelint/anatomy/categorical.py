"""The KL of a categorical posterior, held against the closed form.

KL(q || p) = sum_k q_k (log q_k - log p_k), with sum_k p_k = 1; log p_k = -log K for the uniform prior over K classes (Jang et al. 2017,
section 3).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from vaelint.anatomy.isolate import silence_others
from vaelint.anatomy.kl import fit
from vaelint.anatomy.objective import KlFact
from vaelint.anatomy.replay import ReplayError
from vaelint.graph import shape

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def categorical_faults(model: Model) -> list[tuple[KlFact, str]]:
    """KL terms of categorical posteriors whose prior is none, or that take logits for log-probabilities."""
    found = []
    for fact in model.kls:
        sites = [s for s in fact.term.sites if s.kind == "categorical" and s.mu is not None and s.heads]
        if fact.site is not None or len(sites) != 1 or model.record.loss is None:
            continue
        what = _fault(model, fact, sites[0])
        if what is not None:
            found.append((fact, what))
    return found


def _fault(model: Model, fact: KlFact, site: object) -> str | None:
    from vaelint.anatomy.sites import Site

    assert isinstance(site, Site) and site.mu is not None and model.record.loss is not None
    sizes = {**model.symbols, "B": 2}
    classes = shape(site.mu)[-1]
    head = site.heads[0]
    if classes < 2:
        return None
    rows, values = [], []
    generator = torch.Generator().manual_seed(1)
    try:
        quiet = silence_others(fact.term, model.replay, sizes)
        for i in range(3 * classes + 6):
            logits = (0.3 + 0.4 * (i % 6)) * torch.randn(model.replay.shape_of(head, sizes), dtype=torch.float64, generator=generator)
            got = model.replay([model.record.loss, site.mu], {**quiet, head: logits}, sizes)
            q = torch.softmax(got[site.mu], dim=-1)
            rows.append(((q * q.clamp(min=1e-300).log()).sum(), (q * got[site.mu]).sum(), q.flatten(0, -2).sum(0)))
            values.append(got[model.record.loss].sum())
    except ReplayError:
        return None
    f = torch.stack(values)
    entropy, linear = torch.stack([r[0] for r in rows]), torch.stack([r[1] for r in rows])
    shares = [torch.stack([r[2][k] for r in rows]) for k in range(classes)]
    coefficients, residual = fit(f, [entropy, *shares])
    if residual < 1e-6 and coefficients[0] > 0:
        mass = sum(math.exp(-c / coefficients[0]) for c in coefficients[1:])  # exp(-c_k / w) is the prior of class k
        return None if abs(mass - 1) < 1e-4 else f"its prior has a total mass of {mass:.4g}: at the prior the term is not 0"
    (_, *_), residual = fit(f, [linear, *shares])
    if residual < 1e-6:
        return "logits stand where log-probabilities should"
    return None
