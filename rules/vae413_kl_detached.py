"""The KL in the loss has no gradient.

## What it does
Finds KL terms that enter the loss by `.item()`, `float()`, `detach()`, `.data` or from under `no_grad`.

## Why is this bad
The number is in the loss and the logs look right, but the gradient is that of the reconstruction alone: the KL never
falls.

## Formula
d loss / d phi = d(-log p(x|z)) / d phi + d KL / d phi, phi the encoder's parameters: the KL has a gradient of its
own.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, section 2.2 and eq. 10.

## Example
    kl = (-0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1)).mean().item()
    loss = rec + kl

## Use instead
    kl = (-0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1)).mean()
    loss = rec + kl

## When to ignore
Never.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, Span, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from vaelint.anatomy.loss.terms import Term


@rule(
    "VAE413",
    "kl-detached",
    Severity.ERROR,
    message="the KL in the loss has no gradient",
    needs=("loss",),
    basis="shapes",
).on("kl.missing.detached_terms", "kl.missing.detached_place")
def check(model: Model, detached_terms: Callable[[str], list[Term]], detached_place: Callable[[Term], Span | None]) -> Findings:
    """KL terms cut from their gradient on the way to the loss."""
    for term in detached_terms("kl"):
        yield Found(
            detached_place(term),
            label="the gradient ends here",
            labels=model.labels((term.core, "the KL"), (model.record.loss, "added here as a number")),
            why="the KL is in the value of the loss and not in its gradient: nothing holds the posterior",
            help="keep the tensor for the loss, and detach only the logged value",
            repair=repairs.KeepGradient(node=term.detached or term.core),
            claim=claims.GradientReaches("the KL gives mu no gradient", node=term.core),
        )
