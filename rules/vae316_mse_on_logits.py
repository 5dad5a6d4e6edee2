"""A squared error gets logits while the data is in [0, 1].

## What it does
Finds squared or absolute errors on a raw decoder output, with data declared in [0, 1], where the same class applies a
sigmoid to the decoder's output elsewhere.

## Why is this bad
The code itself says that the decoder puts out logits: sampled images go through a sigmoid. Trained with a squared
error against data in [0, 1], the raw output is the image, and the sigmoid then squashes it to [0.5, 0.73].

## Formula
-log N(x; r, s^2) = (x - r)^2 / (2 s^2) + const, with r the image itself; -log p(x|a) = softplus(a) - x a, with
sigmoid(a) the image.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, appendix C.1 and C.2.

## Example
    recon = self.decode(z)
    loss = F.mse_loss(recon, x, reduction="sum")
    ...
    return torch.sigmoid(self.decode(z))      # generate

## Use instead
    recon = self.decode(z)
    loss = F.binary_cross_entropy_with_logits(recon, x, reduction="sum")

## When to ignore
When the sigmoid elsewhere is for display only and known to distort.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Label, Model, Severity, claims, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from vaelint.anatomy.loss.facts import ReconFact


@rule(
    "VAE316",
    "mse-on-logits",
    Severity.WARNING,
    message="a squared error gets logits",
    needs=("reconstruction",),
).on("likelihood.squashed.squashed_elsewhere")
def check(model: Model, squashed_elsewhere: Callable[[ReconFact], Label | None]) -> Findings:
    """Errors on raw outputs that the class elsewhere treats as logits."""
    for fact in model.recons:
        elsewhere = squashed_elsewhere(fact)
        if elsewhere is None:
            continue
        yield Found(
            model.where(fact.pair.meet),
            label="compares the raw output with data in [0, 1]",
            labels=(elsewhere,),
            why="the class treats the decoder's output as logits elsewhere; here it is trained to be the image itself",
            help="use binary_cross_entropy_with_logits, or put the sigmoid into the decoder",
            claim=claims.ValueRange("the reconstruction leaves [0, 1]", node=fact.pair.recon, outside=(0.0, 1.0)),
        )
