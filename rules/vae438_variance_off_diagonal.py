"""Variances are added to, or taken from, every row of a covariance.

## What it does
Runs sums and differences of a square matrix and a vector: reports a covariance (symmetric, no eigenvalue below 0) that
a vector of positive numbers leaves without its symmetry.

## Why is this bad
Broadcasting adds variance j to the covariance of every latent with latent j. A penalty on the off-diagonal entries then
pulls at the variances, and one on the diagonal does not see them alone. `cov - cov.diagonal()` takes variance j from all of
column j: the penalty is least where covariances have the size of variances.

## Formula
Cov(z) = E[Sigma(x)] + Cov(mu(x)), with Sigma(x) = diag(sigma(x)^2).

Source: Kumar et al. 2018, Variational Inference of Disentangled Latent Concepts from Unlabeled Observations
(DIP-VAE), eq. 5.

## Example
    cov_z = cov_mu + logvar.exp().mean(0)

## Use instead
    cov_z = cov_mu + torch.diag(logvar.exp().mean(0))

## When to ignore
When the matrix is not a covariance.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule(
    "VAE438",
    "variance-off-diagonal",
    Severity.ERROR,
    message="variances are added to, or taken from, every row of a covariance",
    needs=("loss",),
)
def check(model: Model) -> Findings:
    """The law on covariances reports these."""
    yield from ()
