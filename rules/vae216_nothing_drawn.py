"""The posterior has a KL, and nothing is drawn from it.

## What it does
Where no noise is drawn in the whole step, looks for a Gaussian KL in the loss: a value that is squared beside another
one that is there both plain and exponentiated. If the reconstruction is made of the first and does not depend on the
second, the mean is decoded instead of a sample. Where evaluation mode draws, and training does not, the test of
`self.training` is the place.

## Why is this bad
The variance is trained by the KL alone, which sets it to 1, and the decoder never sees the spread that it meets when
generating: this is a plain autoencoder with a penalty on its code.

## Example
    z = mu

## Use instead
    z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)

## When to ignore
Never in training; do not check an evaluation step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, Span, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.sampling.undrawn import Undrawn


@rule(
    "VAE216",
    "nothing-drawn",
    Severity.ERROR,
    message="the posterior has a KL, and nothing is drawn from it",
    needs=("loss",),
).on("sampling.undrawn.undrawn_posterior", "sampling.undrawn.undrawn_place", "sampling.inverted_mode.inverted_mode")
def check(model: Model, undrawn_posterior: Undrawn | None, undrawn_place: Span | None, inverted_mode: Span | None) -> Findings:
    """The mean goes into the decoder."""
    if undrawn_posterior is not None:
        yield Found(
            inverted_mode or undrawn_place,
            label="draws in evaluation, and not in training" if inverted_mode else f"decodes {model.written(undrawn_posterior.mu)}",
            labels=model.labels(
                (undrawn_posterior.mu, "the mean"),
                (undrawn_posterior.scale, "only the KL reads the scale"),
                (undrawn_posterior.reader, "reads the mean for z"),
            ),
            shapes=(model.row(undrawn_posterior.mu, "decoded"), model.row(undrawn_posterior.scale, "not used")),
            why="the reconstruction does not depend on the scale: this is a plain autoencoder with a penalty on its code",
            help="turn the test round: training draws, evaluation decodes the mean"
            if inverted_mode
            else "draw z = mu + std * torch.randn_like(std), and decode that",
            claim=claims.ScaleUnread(
                "with the mean held, the reconstruction does not move with the scale",
                mean=undrawn_posterior.mu,
                scale=undrawn_posterior.scale,
                ends=undrawn_posterior.ends,
            ),
        )
