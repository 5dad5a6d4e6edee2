"""log q and log p are taken at different draws.

## What it does
Follows the z of both log-probabilities in a Monte Carlo KL back to its draw, and finds a prior's that is taken at the
posterior's mean. Of a score function, finds a log-probability at another draw than the one that its signal is about.

## Why is this bad
log q(z) - log p(z) estimates the KL only at one and the same z ~ q. At two draws the difference is of much higher
variance, and at a draw of the prior, or at the mean, it estimates something else.

## Formula
KL(q || p) = E_q[log q(z) - log p(z)], estimated by log q(z) - log p(z) at one z ~ q.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, eq. 6 (estimator A).

## Example
    log_q = q.log_prob(q.rsample())
    log_p = p.log_prob(q.rsample())

## Use instead
    z = q.rsample()
    log_q, log_p = q.log_prob(z), p.log_prob(z)

## When to ignore
Never.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.kl.split_draws import SplitDraws


@rule(
    "VAE421",
    "kl-draws-differ",
    Severity.ERROR,
    message="log q and log p are taken at different draws",
    needs=("site", "loss"),
    basis="replay",
).on("kl.split_draws.split_draws")
def check(model: Model, split_draws: list[SplitDraws]) -> Findings:
    """Monte Carlo KLs with one draw in log q and another in log p."""
    for found in split_draws:
        yield Found(
            found.place,
            label="two points in one estimate",
            labels=model.labels((found.usual, "z"), (found.odd, "used as z here")),
            why="the signal says nothing about the draw whose log-probability it multiplies: on average it moves the encoder nowhere"
            if found.of_score
            else "the difference of log-probabilities estimates the KL only at one and the same z",
            help="draw z once and use it in both",
            claim=claims.SameValues("the two differ", nodes=[found.usual, found.odd], equal=False),
        )
