"""The effective beta depends on the latent size.

## What it does
Measures how the weight of the KL moves with the latent's own dimensions: it should not.

## Why is this bad
The ELBO of one sample is the expected log-likelihood, summed over the data's dimensions, minus the KL, summed over
the latent's (Kingma & Welling 2014, eq. 3 and 10). The KL of independent components is the sum over the components.
Averaged, it is L times too weak: reconstructions are good and samples from the prior are noise.

## Formula
ELBO(x) = E_q[log p(x|z)] - KL(q(z|x) || p(z)): one number for each sample, both terms summed over their own
dimensions. With the KL averaged over L latents: beta = 1/L.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, eq. 3, 8 and 10; beta: Higgins et al. 2017,
beta-VAE, eq. 4.

## Example
    kl = -0.5 * torch.mean(1 + logvar - mu.pow(2) - logvar.exp(), dim=1).sum()
    kl = kl_divergence(q, p).mean()                  # of Normal(mu, std): one number for each latent
    kl = kl_elements.sum() / mu.numel()

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
When the weaker KL is intended: give it a named weight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vaelint.faults.kl.scale_verdicts import ScaleFault


@rule(
    "VAE403",
    "kl-mean-over-latent",
    Severity.WARNING,
    message="the KL is averaged over the latent",
    needs=("beta",),
    basis="replay",
).on("kl.imbalance.off_balance")
def check(model: Model, off_balance: Callable[[ScaleFault], Iterator[Found]]) -> Findings:
    """Effective betas that move with the latent size."""
    return off_balance("latent")
