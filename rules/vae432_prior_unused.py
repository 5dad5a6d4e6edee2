"""The KL ignores the model's own learned prior.

## What it does
Finds layers and parameters that the loss gives no gradient, that put out mean and scale of a latent (in this step, or in
a method that draws with them), beside a KL that is exactly the one to N(0, I).

## Why is this bad
The posterior is held to N(0, I), and the intended prior keeps its random values: samples from it have nothing to do
with the decoder's training.

## Formula
KL(q(z|x, c) || p(z|c)) = log(s_p / s_q) + (s_q^2 + (m_q - m_p)^2) / (2 s_p^2) - 1/2, with m_p and s_p learned.

Source: Sohn et al. 2015, Learning Structured Output Representation using Deep Conditional Generative Models, eq. 4.

## Example
    prior_mu, prior_logvar = self.prior(c).chunk(2, 1)
    kl = 0.5 * (mu.pow(2) + logvar.exp() - 1 - logvar).sum(1)

## Use instead
    kl = 0.5 * (prior_logvar - logvar - 1 + (logvar.exp() + (mu - prior_mu).pow(2)) / prior_logvar.exp()).sum(1)

## When to ignore
When the prior is fitted to the finished posteriors in a stage of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Label, Model, Severity, Span, claims, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from vaelint.anatomy.loss.facts import KlFact
    from vaelint.faults.gradients.unused_prior import UnusedPrior


@rule(
    "VAE432",
    "prior-unused",
    Severity.WARNING,
    message="the KL is taken to N(0, I), and a learned prior is left out",
    needs=("kl",),
    basis="shapes",
).on("gradients.unused_prior.unused_priors", "kl.term_places.wrong_part")
def check(model: Model, unused_priors: list[UnusedPrior], wrong_part: Callable[[KlFact], Span | None]) -> Findings:
    """Learned priors without a part in the loss."""
    for found in unused_priors:
        places = ((found.made, "made here"), (found.called, "called here"))
        yield Found(
            found.call or wrong_part(found.fact),
            label=f"leaves out {found.path}",
            labels=tuple(Label(place, f"{found.path} is {what}") for place, what in places if place is not None),
            why="the prior keeps its random initial values, so samples from it are random too",
            help="take the KL to this prior, or remove it and draw from N(0, I)",
            facts={"parameters": list(found.parameters)},
            claim=claims.GradientReaches("no gradient arrives at the prior", parameters=list(found.parameters)),
        )
