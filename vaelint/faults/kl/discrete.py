"""KLs of discrete posteriors on the tensors of the real run: their weight on the entropy, for any prior."""

from __future__ import annotations

import torch
from torch import fx

from vaelint.anatomy.loss.facts import KlFact
from vaelint.anatomy.posterior.sites import Site
from vaelint.experiment.isolated import leaves_like, term_value
from vaelint.experiment.trial import Trial
from vaelint.experiment.verdict import CannotMeasureError, Verdict

_FORM = 3e-3


def discrete_fit(trial: Trial, fact: KlFact, binary: bool) -> tuple[float, float]:
    """(weight, residual) of a term as a weight times sum q log q, and a part that is linear in q: minus the log of some prior.

    A relaxed draw divides the logits by its temperature before it draws; the KL reads the head itself.
    """
    site = next(s for s in fact.term.sites if s.kind == "categorical")
    if site.mu is None or not site.heads:
        raise CannotMeasureError("the logits of the posterior were not found")
    readings = dict.fromkeys((site.mu, *(h for h in site.heads if trial.like(h).shape == trial.like(site.mu).shape)))
    return min((_fit(trial, fact, site, logits, binary) for logits in readings), key=lambda fit: fit[1])


def _fit(trial: Trial, fact: KlFact, site: Site, read: fx.Node, binary: bool) -> tuple[float, float]:
    """`discrete_fit` for one of the values that may be the logits."""
    values: list[float] = []
    columns: list[torch.Tensor] = []
    runs = 8
    with torch.no_grad():
        while len(values) < runs:
            heads = leaves_like(trial, site.heads, spread=0.3 + 0.4 * (len(values) % 5), seed=len(values))
            logits = trial.recompute([read], heads)[read].double().cpu()
            values.append(float(term_value(trial, fact.term, heads).double()))
            if binary:
                q = torch.sigmoid(logits)
                linear, entropy = q.sum().reshape(1), (q.xlogy(q) + (1 - q).xlogy(1 - q)).sum()
            else:
                q = torch.softmax(logits, -1)
                linear, entropy = q.flatten(0, -2).sum(0), q.xlogy(q).sum()
            columns.append(torch.cat([entropy.reshape(1), linear, torch.ones(1, dtype=torch.float64)]))
            runs = max(runs, 2 * columns[0].numel() + 4)
    v, a = torch.tensor(values, dtype=torch.float64).unsqueeze(1), torch.stack(columns)
    solution = torch.linalg.lstsq(a, v, driver="gelsd").solution
    return float(solution[0]), float((a @ solution - v).norm() / (v - v.mean()).norm().clamp(min=1e-30))


def against_bernoulli(trial: Trial, fact: KlFact) -> Verdict:
    """Whether the term is the KL of Bernoulli latents to no prior at all."""
    _, off = discrete_fit(trial, fact, binary=True)
    return Verdict(off > _FORM, f"the term is off every KL to a Bernoulli prior by {off:.2%} of its spread", "random posteriors")


def discrete_weight(trial: Trial, fact: KlFact) -> tuple[float, float]:
    """(weight of the term on the KL, residual)."""
    w, off = discrete_fit(trial, fact, binary=fact.probe.family == "Bernoulli")
    if off > 10 * _FORM:
        raise CannotMeasureError(f"the term is not the KL of its posterior ({off:.0%} off)")
    return w, off
