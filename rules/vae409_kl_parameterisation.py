"""The KL and the sampler read the encoder's head differently.

## What it does
Evaluates the KL as a function of the head for each reading (log-variance, log-standard deviation, standard deviation,
variance) and compares with the sampler's.

## Why is this bad
`1 + log_std - mu^2 - exp(log_std)` is the formula of a log-variance applied to a log-standard deviation: its minimum
is at the wrong spread, and it can be negative.

## Formula
KL(N(m, s^2) || N(0, 1)) = 0.5 * sum_j (m_j^2 + s_j^2 - 1 - log s_j^2): with v = log s^2 it is 0.5 (m^2 + e^v - 1 -
v), with h = log s it is 0.5 (m^2 + e^(2h) - 1) - h.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, appendix B.

## Example
    z = mu + torch.exp(log_std) * eps
    kl = -0.5 * torch.sum(1 + log_std - mu.pow(2) - log_std.exp())

## Use instead
    z = mu + torch.exp(log_std) * eps
    kl = -0.5 * torch.sum(1 + 2 * log_std - mu.pow(2) - (2 * log_std).exp())

## When to ignore
Never.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from vaelint.anatomy.loss.facts import KlFact
    from vaelint.faults.kl.mended_formula import MendedFormula
    from vaelint.faults.sampling.clash import Clash

_FORMULAS = {
    "logvar": ", the sampler's: 1 + logvar - mu**2 - exp(logvar)",
    "log-std": ", the sampler's: for a log-standard deviation s, 1 + 2*s - mu**2 - exp(2*s)",
}
_EITHER = ": 1 + logvar - mu**2 - exp(logvar) for a log-variance, 1 + 2*s - mu**2 - exp(2*s) for a log-standard deviation s"


@rule(
    "VAE409",
    "kl-parameterisation",
    Severity.ERROR,
    message="the KL and the sampler read the encoder's head differently",
    needs=("kl",),
    basis="replay",
).on("sampling.clash.clashes", "kl.mended_formula.mended_formula")
def check(model: Model, clashes: list[Clash], mended_formula: Callable[[KlFact], MendedFormula | None]) -> Findings:
    """Clashes in which the KL is the odd one, and formulas of two readings at once."""
    for clash in clashes:
        if clash.culprit == "kl" and not clash.negative:
            mended = mended_formula(clash.fact)
            one = mended.place if mended is not None else None
            yield Found(
                one or clash.kl_place(model),
                label=f"reads the head as {clash.kl_reads}" + (f"; {mended.words}" if mended is not None and one is not None else ""),
                labels=model.labels((clash.scale, f"the sampler reads it as {clash.sampler}"), (clash.head, "the head")),
                why="the KL is that of another posterior than the one that is sampled",
                help=f"write the KL for a scale of {clash.formula_now}",
                notes=(clash.tie,) if clash.tie else (),
                repair=repairs.KlFormula(core=clash.kl, heads=clash.site.heads, reading=True),
                claim=None
                if clash.fact.probe.monte_carlo  # a draw differs from the closed form in any case
                else claims.KlClosedForm("the term differs from the closed form", fact=clash.fact),
            )
    for fact in model.kls:
        if fact.is_partly_read:
            reading = model.parameterisation(fact.site).name if fact.site else ""
            yield Found(
                model.where(fact.term.core),
                label="log-determinant and variance read the head differently",
                labels=model.labels((fact.site.scale, f"the sampler reads it as {reading}")) if fact.site else (),
                why="one part of the formula reads the head as a log-variance, another as a log-standard deviation",
                help=f"use one reading throughout{_FORMULAS.get(reading, _EITHER)}",
                facts={"coefficients": fact.probe.coefficients},
                repair=repairs.KlFormula(core=fact.term.core, heads=fact.site.heads if fact.site else (), reading=True),
                claim=claims.KlClosedForm("the term differs from the closed form", fact=fact),
            )
