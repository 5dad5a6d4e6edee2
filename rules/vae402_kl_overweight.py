"""The effective beta depends on the size of the data.

## What it does
Measures how the weight of the reconstruction moves with each dimension of the data. An average over D elements makes
the KL D times too strong; an explicit, named weight on the KL silences the rule (the implied beta is still printed).

## Why is this bad
The ELBO of one sample is the expected log-likelihood, summed over the data's dimensions, minus the KL, summed over
the latent's (Kingma & Welling 2014, eq. 3 and 10). With the default `reduction="mean"` the reconstruction is divided
by the number of pixels: the loss is that of a Gaussian decoder with variance D/2, the KL falls to 0 within an epoch
and every input decodes to the mean image.

## Formula
ELBO(x) = E_q[log p(x|z)] - KL(q(z|x) || p(z)): one number for each sample, both terms summed over their own
dimensions. With log p averaged over D elements: beta = D.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, eq. 3, 8 and 10; beta: Higgins et al. 2017,
beta-VAE, eq. 4.

## Example
    rec = F.mse_loss(recon, x)
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())

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
When the strong KL is intended: give it a named weight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vaelint.faults.kl.scale_verdicts import ScaleFault


@rule(
    "VAE402",
    "kl-overweight",
    Severity.WARNING,
    message="the reconstruction is averaged over the data and the KL is not",
    needs=("beta",),
    basis="replay",
).on("kl.imbalance.off_balance")
def check(model: Model, off_balance: Callable[[ScaleFault], Iterator[Found]]) -> Findings:
    """Effective betas that move with the size of the data."""
    return off_balance("data")
