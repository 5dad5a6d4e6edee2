"""The KL is not the KL of the posterior that is drawn.

## What it does
Measures the gradients of the term on chosen posteriors: for q = N(m, s^2) and p = N(0, 1) they must be m, and s^2 - 1
with respect to log s, up to one common weight. For a full covariance C = A A^T the parts are |m|^2, tr C and log det
C; for a Laplace posterior of location m and scale b they are sign(m) (1 - e) and (|m| + b) e - 1 with e =
exp(-|m|/b). Other families, free bits and capacities are recognised and left alone. Of a learned prior the mean must
be subtracted. A term whose gradients are right must be 0 at the prior: its 1/2 belongs to each latent dimension, not
to the sum over them.

## Why is this bad
KL = 1/2 * (m^2 + s^2 - 1 - log s^2) (Kingma & Welling 2014, appendix B). A wrong sign or coefficient inside the
formula moves its minimum away from the prior, or removes it: the term can then be negative, and unbounded below.

## Formula
KL(N(m, s^2) || N(0, 1)) = 0.5 * sum_j (m_j^2 + s_j^2 - 1 - log s_j^2); its slopes: m in m, and s^2 - 1 in log s.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, appendix B.

## Example
    kl = -0.5 * torch.sum(1 + logvar + mu.pow(2) - logvar.exp())      # sign of mu^2
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar)            # exp forgotten
    kl = -0.5 * torch.sum(1 + logvar.pow(2) - mu.pow(2) - logvar.exp())
    kl = 0.5 * torch.sum(mu.pow(2) + logvar.exp()) - torch.sum(logvar)  # half on one part only

## Use instead
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())               # head: log-variance
    kl = -0.5 * torch.sum(1 + 2 * logstd - mu.pow(2) - (2 * logstd).exp())     # head: log-standard deviation
    kl = torch.sum(0.5 * (mu.pow(2) + std.pow(2) - 1) - std.log())             # head: standard deviation
    kl = kl_divergence(Normal(mu, std), Normal(0.0, 1.0)).sum()
    kl = (mu.abs() + b * torch.exp(-mu.abs() / b) - 1 - b.log()).sum()         # Laplace, scale b (Gil et al. 2013, table 3)
    kl = 0.5 * (mu.pow(2).sum(1) + chol.pow(2).sum((1, 2)) - d) - chol.diagonal(dim1=1, dim2=2).log().sum(1)  # C = chol chol^T

## When to ignore
When the term is deliberately another regulariser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, Span, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from vaelint.anatomy.loss.facts import KlFact
    from vaelint.faults.kl.mended_formula import MendedFormula

_RIGHT = {
    "Gaussian": "use 0.5 * (mu**2 + logvar.exp() - 1 - logvar), summed over the latent",
    "Laplace": "use mu.abs() + b * exp(-mu.abs() / b) - 1 - log(b) for a scale b, summed over the latent",
}


@rule(
    "VAE408",
    "kl-formula",
    Severity.ERROR,
    message="the KL term is not the KL of the posterior",
    needs=("kl",),
    basis="replay",
).on("kl.term_places.wrong_part", "kl.term_places.borrowed_spread", "kl.mended_formula.mended_formula")
def check(
    model: Model,
    wrong_part: Callable[[KlFact], Span | None],
    borrowed_spread: Callable[[KlFact], Span | None],
    mended_formula: Callable[[KlFact], MendedFormula | None],
) -> Findings:
    """Terms in the posterior alone whose gradients are not those of a KL."""
    told: set[Span] = set()
    for fact in model.kls:
        if fact.probe.verdict != "wrong" or fact.is_partly_read:
            continue
        if (taken := borrowed_spread(fact)) is not None:
            if taken not in told:
                told.add(taken)
                yield _of_another(fact, taken)
            continue
        found = ", ".join(f"{k}: {v:.3g}" for k, v in fact.relative_coefficients.items())
        mended = mended_formula(fact)
        yield Found(
            (mended.place if mended is not None else None) or wrong_part(fact),
            label=(mended.words if mended is not None else "")
            or fact.probe.reason
            or fact.wrong_coefficient
            or f"coefficients of the gradient, where the KL has 1, 1, 1: {found}",
            why="its minimum is not at the prior: it does not pull towards a location of 0 and a scale of 1",
            help=_RIGHT.get(fact.probe.family, "use torch.distributions.kl_divergence(posterior, prior), summed over the latent"),
            notes=("dL/dmu = w * mu and dL/dlog(s) = w * (s**2 - 1) for the exact KL",) if fact.probe.family == "Gaussian" else (),
            facts={"coefficients": fact.relative_coefficients},
            repair=repairs.KlFormula(core=fact.term.core, heads=fact.site.heads if fact.site else ()),
            claim=claims.KlClosedForm("the term differs from the closed form", fact=fact),
        )
    for fact in model.kls:
        if fact.probe.constant:
            yield Found(
                wrong_part(fact),
                label="its constant 1/2 is counted once, and belongs to each latent dimension",
                why="the gradients are those of the KL, its value is not: a bound that is reported is off by 1/2 a dimension",
                help=_RIGHT["Gaussian"],
                facts={"constant": fact.probe.constant},
                claim=claims.KlClosedForm("the term is not 0 at the prior", fact=fact),
            )


def _of_another(fact: KlFact, taken: Span) -> Found:
    return Found(
        taken,
        label="charges the mean of one posterior with the spread of another",
        why="one posterior's spread is charged twice, and the other's pulls at nothing: its noise vanishes, or grows without bound",
        help="give the KL of each posterior its own mean and its own spread",
        claim=claims.KlClosedForm("the term differs from the closed form", fact=fact),
    )
