"""The covariance over the batch uses values centred over the features.

## What it does
Finds products a^T a over the batch, made of the posterior's means or of z, and looks at what a is centred by, with
random values for the posterior: reports a whose mean over each sample's own features is 0, and not that over the batch.
`torch.cov` and `torch.corrcoef` take their variables in rows: of values with the samples in rows, they give that matrix
of the samples, B times B, centred over the features.

## Why is this bad
The covariance of DIP-VAE is that of the means over the data (Kumar et al. 2018, equation 4): E[mu mu^T] - E[mu] E[mu]^T.
Without the mean over each sample's features the rows of the matrix sum to 0: dimensions are pushed to be negatively
correlated, and a mean that is the same for all samples counts as covariance.

## Formula
C = E[(z - m)(z - m)^T] = E[z z^T] - m m^T.

Source: Kumar et al. 2018, Variational Inference of Disentangled Latent Concepts from Unlabeled Observations
(DIP-VAE), eq. 5 to 7.

## Example
    centred = mu - mu.mean(dim=1, keepdim=True)
    cov = centred.t() @ centred

## Use instead
    centred = mu - mu.mean(dim=0, keepdim=True)
    cov = centred.t() @ centred / mu.size(0)

## When to ignore
When no covariance over the data is intended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.batch.covariances import Miscentred


@rule(
    "VAE426",
    "covariance-not-centred",
    Severity.ERROR,
    message="the covariance over the batch uses values centred over the features",
    needs=("site", "loss"),
    basis="replay",
).on("batch.covariances.miscentred_covariances")
def check(model: Model, miscentred_covariances: list[Miscentred]) -> Findings:
    """Products over the batch of values without their features' mean."""
    for found in miscentred_covariances:
        if found.product is found.centred:
            yield _of_samples(model, found)
            continue
        yield Found(
            model.where(found.centred),
            label="the mean over the features is subtracted, not the mean over the batch",
            labels=model.labels((found.product, f"{model.shape_text(found.product)} is summed over the batch here")),
            shapes=(model.row(found.values), model.row(found.product)),
            why="the values must have mean 0 over the batch to give a covariance",
            help="subtract mu.mean(dim=0, keepdim=True), and divide the product by the batch size",
            claim=claims.CentredBy("the means over the features are 0, those over the batch are not", values=found.values),
        )


def _of_samples(model: Model, found: Miscentred) -> Found:
    return Found(
        model.where(found.product),
        label=f"gives {model.shape_text(found.product)}: its variables are the rows, here the samples",
        shapes=(model.row(found.values), model.row(found.product)),
        why="it says how alike the samples are over their features, each less its own mean: the dimensions of the latent are not compared",
        help="turn the values: torch.cov(mu.t()) has the latent's dimensions as variables",
        claim=claims.CentredBy("it is centred over the features, not over the batch", values=found.values, product=found.product),
    )
