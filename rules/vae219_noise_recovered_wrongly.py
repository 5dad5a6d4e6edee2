"""The noise is recovered from z with something that is not a standard deviation.

## What it does
Finds (z - mu) / d with d made of the head of the scale, in the loss or among the outputs, and tries d with random
heads: reports one that takes both signs, such as the log-variance itself.

## Why is this bad
z = mu + s eps gives eps = (z - mu) / s. Divided by a log-variance the result is not the noise: it has the wrong sign
where the variance is below 1, and without bound where it is near 1.

## Example
    eps = (z - mu) / logvar

## Use instead
    eps = (z - mu) / torch.exp(0.5 * logvar)

## When to ignore
When the quotient is not meant to be the noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.sampling.recovered import Recovered


@rule(
    "VAE219",
    "noise-recovered-wrongly",
    Severity.WARNING,
    message="the noise is recovered from z with something that is not a standard deviation",
    needs=("site",),
).on("sampling.recovered.recovered_noise")
def check(model: Model, recovered_noise: list[Recovered]) -> Findings:
    """Quotients of z - mu by what can be negative."""
    for found in recovered_noise:
        unused = bool(model.reaching_loss) and found.node not in model.reaching_loss
        yield Found(
            model.where(found.node),
            label=f"{model.written(found.divisor)} can be negative, a standard deviation cannot",
            labels=model.labels((found.site.z, "drawn here"), (found.site.scale, "with this standard deviation")),
            why="the quotient is not the noise that z was drawn with",
            notes=("the loss does not depend on it",) if unused else (),
            help="divide by the standard deviation that z was drawn with",
            claim=claims.ValueRange("the divisor is negative somewhere", node=found.divisor, outside=(0.0, float("inf"))),
        )
