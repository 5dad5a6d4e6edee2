"""The log-weight of a mixture is counted once for each latent dimension.

## What it does
Finds log-sum-exps of densities of z (a mixture prior, the aggregated posterior of a minibatch) and the log-weights in
them. Reports a weight that is added to the densities of the single dimensions and summed over them with these. How
often it counts is the derivative of one component's exponent in it. The law `components-are-whole` finds mixtures of
a network's components whose log-sum runs for each dimension by itself.

## Why is this bad
log q(z) = log sum_n w_n prod_d q(z_d | n): the logarithm of w_n belongs beside the sum over d. Added before it, it
counts D times, as if the weights were w_n^D: in a minibatch weighted as in Chen et al. 2018 (appendix C) almost only
the sample's own density is left, and the total correlation is lost.

## Formula
log p(z) = log sum_k pi_k p_k(z) = logsumexp_k (log pi_k + log p_k(z)), with sum_k pi_k = 1.

Source: Tomczak & Welling 2018, VAE with a VampPrior, eq. 9.

## Example
    mat = log_density(z[:, None], mu[None], logvar[None]) + log_w[:, :, None]    # (B, B, D)
    log_qz = torch.logsumexp(mat.sum(2), dim=1)

## Use instead
    mat = log_density(z[:, None], mu[None], logvar[None])
    log_qz = torch.logsumexp(log_w + mat.sum(2), dim=1)
    log_prod_qz = torch.logsumexp(log_w[:, :, None] + mat, dim=1).sum(1)

## When to ignore
Never. Weights that are equal for all components are not reported: they move the value of the loss and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.bounds.mixture_weights import Repeated


@rule(
    "VAE423",
    "mixture-weight-repeated",
    Severity.ERROR,
    message="the log-weight of a mixture is counted once for each latent dimension",
    needs=("site", "loss"),
    basis="replay",
).on("bounds.mixture_weights.repeated_weights")
def check(model: Model, repeated_weights: list[Repeated]) -> Findings:
    """Log-weights inside of the sum over the latent."""
    for found in repeated_weights:
        yield Found(
            model.where(found.added),
            label=f"{model.shape_text(found.weight)} is stretched over {model.shape_text(found.added)} here",
            labels=model.labels((found.reducer, f"and summed here, {found.times} times"), (found.total, "the mixture it weights")),
            shapes=(model.row(found.weight, "a log-weight"), model.row(found.added), model.row(found.reducer)),
            why=f"the weights act as their {found.times}th powers: the heaviest component takes everything",
            help="add the log-weight after the sum over the latent dimensions",
            facts={"times": found.times},
            claim=claims.CountedTimes(
                f"one log-weight counts {found.times} times in its component", weight=found.weight, source=found.reducer
            ),
        )
