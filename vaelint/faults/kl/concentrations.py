"""The KL of a Gamma or Dirichlet posterior on the tensors of the real run: its gradient in the concentration, against both directions."""

from __future__ import annotations

import torch

from vaelint.anatomy.kl.kl_gamma import ConcentrationFit, concentration, fit_concentration, random_concentrations
from vaelint.anatomy.loss.facts import KlFact
from vaelint.experiment.isolated import slope, term_value
from vaelint.experiment.trial import Trial
from vaelint.experiment.verdict import CannotMeasureError, Verdict, number

_CLOSE = 2e-3  # trigamma in single precision, over a sum of many elements
_RUNS = 4


def measured_fit(trial: Trial, fact: KlFact) -> ConcentrationFit | None:
    """The KL that the term is at random concentrations, everything else it is made of the same for all samples."""
    found = concentration(fact.term)
    if found is None:
        raise CannotMeasureError("the concentration of the posterior was not found")
    _, at, family = found
    others = {f for leaf in fact.term.leaves for f in leaf.frontier if f.meta.get("grad") and f is not at}
    fixed = {f: torch.full_like(trial.value(f).detach(), 0.3) for f in others}
    like = trial.value(at)
    values, slopes = [], []
    for seed in range(_RUNS):
        a = random_concentrations(tuple(like.shape), seed).to(like).requires_grad_()
        values.append(a.detach().double().flatten(0, -2))
        slopes.append(slope(term_value(trial, fact.term, {**fixed, at: a}), {at: a})[at].double().flatten(0, -2))
    return fit_concentration(torch.cat(values).cpu(), torch.cat(slopes).cpu(), family, _CLOSE)


def against_closed_forms(trial: Trial, fact: KlFact) -> Verdict:
    """Whether the term is no multiple of KL(q || p), for any prior p of the posterior's family."""
    fitted = measured_fit(trial, fact)
    what = "neither KL(q || p) nor KL(p || q)" if fitted is None else "KL(p || q)" if fitted.is_reversed else "KL(q || p)"
    measured = f"its gradient in the concentration is that of {what}" + (f", times {number(fitted.weight)}" if fitted else "")
    return Verdict(fitted is None or fitted.is_reversed, measured, f"{_RUNS} batches of random concentrations")


def concentration_weight(trial: Trial, fact: KlFact) -> tuple[float, float]:
    """(weight of the term on the KL, residual)."""
    fitted = measured_fit(trial, fact)
    if fitted is None:
        raise CannotMeasureError("the term's gradients are not those of a KL")
    return fitted.weight, 0.0
