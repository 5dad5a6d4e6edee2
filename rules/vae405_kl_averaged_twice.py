"""The KL is averaged over the batch twice.

## What it does
Measures how both weights move with the batch size. Graph autoencoders that average the reconstruction over N * N
edges and divide the KL by N * N agree, and are not reported.

## Why is this bad
A mean that is divided by the batch size again makes the KL negligible: an autoencoder in effect.

## Formula
ELBO(x) = E_q[log p(x|z)] - KL(q(z|x) || p(z)): one number for each sample, both terms summed over their own
dimensions. With the KL divided by B once more: beta = 1/B.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, eq. 3, 8 and 10; beta: Higgins et al. 2017,
beta-VAE, eq. 4.

## Example
    kl = (-0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1)).mean()
    loss = rec + kl / x.size(0)

## Use instead
One convention for both terms:

    # both summed over the batch
    rec = F.mse_loss(recon, x, reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())

    # both averaged over the batch
    rec = F.mse_loss(recon, x, reduction="sum") / x.size(0)
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / x.size(0)

    # sample by sample, then the mean
    rec = (recon - x).pow(2).flatten(1).sum(1)
    kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).flatten(1).sum(1)
    loss = (rec + kl).mean()

    # everything per element of the data: the KL is divided by the same number
    rec = F.mse_loss(recon, x)
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / x.numel()

## When to ignore
Never.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vaelint.faults.kl.scale_verdicts import ScaleFault


@rule(
    "VAE405",
    "kl-averaged-twice",
    Severity.WARNING,
    message="the KL is divided by the batch size twice",
    needs=("beta",),
    basis="replay",
).on("kl.imbalance.off_balance")
def check(model: Model, off_balance: Callable[[ScaleFault], Iterator[Found]]) -> Findings:
    """Effective betas with the batch size in the denominator."""
    return off_balance("twice")
