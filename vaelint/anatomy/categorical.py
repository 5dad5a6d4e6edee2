"""The KL of a categorical posterior against the uniform prior, held against the closed form.

KL(q || uniform) = sum_k q_k (log q_k + log K), for K classes (Jang et al. 2017, section 3).
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
    """KL terms of categorical posteriors that are a KL but for a constant, or negative somewhere."""
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
    values, references = [], []
    generator = torch.Generator().manual_seed(1)
    try:
        quiet = silence_others(fact.term, model.replay, sizes)
        for spread in (0.0, 0.5, 1.0, 2.0, 4.0):
            logits = spread * torch.randn(model.replay.shape_of(head, sizes), dtype=torch.float64, generator=generator)
            got = model.replay([model.record.loss, site.mu], {**quiet, head: logits}, sizes)
            q = torch.softmax(got[site.mu], dim=-1)
            values.append(got[model.record.loss].sum())
            references.append((q * (q.clamp(min=1e-300).log() + math.log(classes))).sum())
    except ReplayError:
        return None
    f, kl = torch.stack(values), torch.stack(references)
    (w, c), residual = fit(f, [kl, torch.ones_like(kl)])
    if residual < 1e-6 and abs(w) > 1e-9:
        return None if abs(c) < 1e-6 * max(1.0, abs(w)) else f"{c / w:+.3g} at the uniform distribution, where a KL is 0"
    if float(f.min()) < -1e-9 and float(f[0].abs()) > 1e-9 and w > 0:
        return f"as low as {float(f.min()):.3g}: not a KL"
    return None
