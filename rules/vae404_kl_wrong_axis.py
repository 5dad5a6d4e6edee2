"""The KL is summed over only some of the latent's axes, or over the batch instead.

## What it does
Measures how the weight of the KL moves with each of its axes: all of the latent's own must be summed, the batch may
be averaged.

## Why is this bad
The ELBO of one sample is the expected log-likelihood, summed over the data's dimensions, minus the KL, summed over
the latent's (Kingma & Welling 2014, eq. 3 and 10). For a map of shape (B, C, H, W), a sum over C with a mean over the
rest is H*W times too weak; `sum(0).mean()` sums over the batch and averages over the latent.

## Formula
ELBO(x) = E_q[log p(x|z)] - KL(q(z|x) || p(z)): one number for each sample, both terms summed over their own
dimensions. KL = sum over all of the latent's axes; summed over the batch and averaged over the latent: beta = B/L.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, eq. 3, 8 and 10; beta: Higgins et al. 2017,
beta-VAE, eq. 4.

## Example
    kl = 0.5 * torch.sum(mu ** 2 + logvar.exp() - 1 - logvar, dim=1).mean()      # mu: (B, C, H, W)
    kl = kl_elements.sum(0).mean()
    kl = torch.einsum("bl->l", kl_elements).mean()

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
When a KL per position is intended: give it a named weight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vaelint.faults.kl.scale_verdicts import ScaleFault


@rule(
    "VAE404",
    "kl-wrong-axis",
    Severity.WARNING,
    message="the KL is summed over the wrong axis",
    needs=("beta",),
    basis="replay",
).on("kl.imbalance.off_balance")
def check(model: Model, off_balance: Callable[[ScaleFault], Iterator[Found]]) -> Findings:
    """Effective betas in which only some of the latent's axes are summed, or the batch in their place."""
    return off_balance("axis")
