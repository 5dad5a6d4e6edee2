"""A term is not a valid log-density of z.

## What it does
For the hand-written log-densities of z in a Monte Carlo KL or in a mixture prior: where the error in z is that of a
Gaussian, holds the part in its variance against it. -log N(z; m, s^2) = (z - m)^2 / (2 s^2) + log s + const, so that
the slope in a log-variance h is (1 - (z - m)^2 / s^2) / 2 times the weight of the error. In a batch's estimate of log q(z) one draw
is moved: one entry must follow. All follow where the log-sum-exp runs over the draws. Of a hierarchy of draws no two may have
priors that are made of each other.

## Why is this bad
log s is what makes the density integrate to 1. Divided by the variance as well, as by a bracket in the wrong place,
counted twice or halved, the estimate is not of a divergence: it can be negative, and its optimum is not q = p.

## Formula
log N(z; m, s^2) = -0.5 * ((z - m)^2 / s^2 + log s^2 + log(2 pi)).

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, appendix C.2, eq. 12.

## Example
    log_q = -0.5 * (logvar + (z - mu) ** 2) / logvar.exp()

## Use instead
    log_q = -0.5 * (logvar + (z - mu) ** 2 / logvar.exp())

## When to ignore
When the term is not meant as a log-density.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.bounds.densities import FlawedDensity


@rule(
    "VAE424",
    "latent-density-formula",
    Severity.ERROR,
    message="a term meant as a log-density of z is not a valid log-density",
    needs=("site", "loss"),
    basis="replay",
).on("bounds.densities.flawed_densities")
def check(model: Model, flawed_densities: list[FlawedDensity]) -> Findings:
    """Densities whose error and normaliser do not go together."""
    for found in flawed_densities:
        counted = found.normaliser
        yield Found(
            model.where(found.node),
            label="the error is that of a Gaussian, the part in its variance is not"
            if counted is None
            else f"log s is counted {counted:g} times",
            labels=model.labels((found.mean, "the mean"), (found.head, f"read as a {found.reading}")),
            why="the error and the normaliser must use one variance, or the term is not a log-density and its optimum is wrong",
            help="write -0.5 * (logvar + (z - mu) ** 2 / logvar.exp()), or use torch.distributions.Normal(mu, std).log_prob(z)",
            claim=claims.LogDensity(
                f"its slope in {model.written(found.head)} is not that of a log-density",
                place=found.node,
                z=found.z,
                mean=found.mean,
                head=found.head,
                reading=found.reading,
                leaves=found.leaves,
            ),
        )
