"""The KL is averaged over the components of a mixture prior.

## What it does
Finds sums and means over the components of a prior in the KL, or in the log-density of the prior, that the loss is
linear in: each component is moved by its own parameters, all see the same posterior, and their weights do not depend
on the sample.

## Why is this bad
log sum_k w_k p_k(z) is a log-sum-exp. The mean of the log-densities, or of the KLs to each component, is as a
function of the posterior the log-density of one single Gaussian, in the middle of all components: every posterior is
pulled to all of them at once, and the trained prior is not a mixture.

## Formula
KL(q || sum_k w_k p_k) = E_q[log q(z) - log sum_k w_k p_k(z)], which is at most sum_k w_k KL(q || p_k).

Source: Tomczak & Welling 2018, VAE with a VampPrior, eq. 9; Hershey & Olsen 2007, Approximating the Kullback Leibler
Divergence Between Gaussian Mixture Models, section 7.

## Example
    log_p = log_normal(z[:, None], means, logvars).sum(-1).mean(1)         # (B, K): the mean of the logarithms
    kl = (weights * kl_to_component).sum(1)                               # (B, K)

## Use instead
    log_p = torch.logsumexp(log_normal(z[:, None], means, logvars).sum(-1), 1) - math.log(K)

## When to ignore
When the posterior is meant to be held against several priors at once. Weights that are responsibilities of the
sample, as in VaDE, are right and are not reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.bounds.averaged_components import Averaged


@rule(
    "VAE433",
    "components-averaged",
    Severity.WARNING,
    message="the KL is averaged over the components of the prior, and not taken to their mixture",
    needs=("kl",),
    basis="replay",
).on("bounds.averaged_components.averaged_components")
def check(model: Model, averaged_components: list[Averaged]) -> Findings:
    """Sums over components in which the loss is linear."""
    for found in averaged_components:
        yield Found(
            model.where(found.reducer),
            label=f"{model.shape_text(found.source)}: axis {found.axis} holds the components, with the same weights for every sample",
            labels=model.labels((found.source, ""), (found.parameter, "")),
            shapes=(model.row(found.source, "one value a component"), model.row(found.reducer)),
            why="as a function of the posterior this is the KL to one Gaussian in the middle of all components",
            help="take log p(z) = torch.logsumexp(log_w + log_p_k, dim) at a draw z, and log q(z) - log p(z) for the KL",
            claim=claims.ComponentsWeighAlike(
                "each component has the same weight for all samples", source=found.source, axis=found.axis, posterior=found.posterior
            ),
        )
