"""The prior is read at z_0 although z_K is decoded.

## What it does
Finds the log-determinant of a normalising flow among the addends of the loss, by its value: it must be log|det dz_K/dz_0|
of the recorded map. Reports a loss that has it beside the KL of the posterior of z_0, in closed form or with its draw, and
no term that reads z_K.

## Why is this bad
With z_K = f(z_0) the bound holds log q_0(z_0) - log|det| - log p(z_K) (Rezende and Mohamed 2015, equation 15). The
closed form is E[log q_0(z_0) - log p(z_0)]: nothing holds z_K near the prior, while the determinant is maximised.
Samples from the prior, with or without the flow, do not follow the distribution that the decoder was trained on.

## Formula
log q_K(z_K) = log q_0(z_0) - sum_k log |det df_k/dz|, KL = E[log q_K(z_K) - log p(z_K)]: the prior is taken at the
end of the flow.

Source: Rezende & Mohamed 2015, Variational Inference with Normalizing Flows, eq. 13 and 15.

## Example
    kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1)
    loss = (rec + kl - log_det).mean()

## Use instead
    log_q0 = Normal(mu, std).log_prob(z0).sum(1)
    log_p = Normal(0, 1).log_prob(z_k).sum(1)
    loss = (rec + log_q0 - log_det - log_p).mean()

## When to ignore
When the flow belongs to the prior and not to the posterior.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.bounds.flows import FlowBound


@rule(
    "VAE427",
    "flow-prior-at-base",
    Severity.ERROR,
    message="the prior is read at z_0 although z_K is decoded",
    needs=("kl",),
    basis="replay",
).on("bounds.flows.flow_bounds")
def check(model: Model, flow_bounds: list[FlowBound]) -> Findings:
    """Closed-form KLs beside a log-determinant, and no log p(z_K)."""
    for found in flow_bounds:
        if found.prior_at_end or found.weight <= 0:
            continue
        yield Found(
            (model.beside(found.prior, found.site.z) if found.prior else None) or model.where(found.prior),  # a helper in order: its call
            label="the KL of z_0 to the prior",
            labels=model.labels((found.site.z, "z_0"), (found.bent, "z_K, which is decoded"), (found.determinant, "the log-determinant")),
            why="nothing holds z_K near the prior, and the log-determinant grows with how far the flow spreads it",
            help="estimate the KL with the draw: log q_0(z_0) - log_det - log p(z_K)",
            claim=claims.PriorSees("the divergence does not depend on z_K by its density", node=found.bent),
        )
