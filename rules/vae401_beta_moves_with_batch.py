"""The effective beta depends on the batch size.

## What it does
Measures how the weight of each term moves with the batch size, by running its slice of the graph at several sizes.
Both must move alike: two sums over the batch, or two means.

## Why is this bad
The ELBO of one sample is the expected log-likelihood, summed over the data's dimensions, minus the KL, summed over
the latent's (Kingma & Welling 2014, eq. 3 and 10). Over a batch both terms are averaged (or both summed). A KL summed
over the batch beside a reconstruction averaged over it is a beta-VAE with beta = B: the last, smaller batch of an
epoch has another objective.

## Formula
ELBO(x) = E_q[log p(x|z)] - KL(q(z|x) || p(z)): one number for each sample, both terms summed over their own
dimensions. Over a batch: (1/B) sum_i ELBO(x_i), or sum_i ELBO(x_i); beta = (weight of the KL) / (weight of log p) =
1, at every B.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, eq. 3, 8 and 10; beta: Higgins et al. 2017,
beta-VAE, eq. 4.

## Example
    rec = F.mse_loss(recon, x, reduction="none").sum(1).mean()
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
Never: a weight that makes up for one batch size does not for the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vaelint.faults.kl.scale_verdicts import ScaleFault


@rule(
    "VAE401",
    "beta-moves-with-batch",
    Severity.ERROR,
    message="the KL and the reconstruction are reduced differently over the batch",
    needs=("beta",),
    basis="replay",
).on("kl.imbalance.off_balance")
def check(model: Model, off_balance: Callable[[ScaleFault], Iterator[Found]]) -> Findings:
    """Effective betas that move with the batch size."""
    return off_balance("batch")
