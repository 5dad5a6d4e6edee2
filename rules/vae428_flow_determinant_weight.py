"""The flow's log-determinant and the KL have different weights.

## What it does
Finds the log-determinant of a normalising flow among the addends of the loss, by its value, and measures its weight
against that of the KL of z_0, or of log q_0(z_0). Both belong to one density and must weigh the same; log p(z_K) may have
another weight, as where the joint density is tempered. Reports as well a log p(z_K) of a value that is bent, with no
log-determinant anywhere.

## Why is this bad
In log q_K(z_K) = log q_0(z_0) - log|det dz_K/dz_0| (Rezende and Mohamed 2015, equation 13) the two are one density. A
sum over the batch beside a mean over it gives the determinant 1/B of its proper weight: the flow gets next to no
gradient from the divergence. Of the wrong sign, it is trained to contract.

## Formula
KL = E[log q_0(z_0) - sum_k log |det df_k/dz| - log p(z_K)]: each determinant has the factor 1.

Source: Rezende & Mohamed 2015, Variational Inference with Normalizing Flows, eq. 13 and 15.

## Example
    kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum()
    loss = (rec.sum() + kl - log_det).mean()        # log_det: (B,)

## Use instead
    loss = rec.sum() + kl - log_det.sum()

## When to ignore
Never.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.bounds.flows import FlowBound


@rule(
    "VAE428",
    "flow-determinant-weight",
    Severity.ERROR,
    message="the flow's log-determinant and the KL have different weights",
    needs=("kl",),
    basis="replay",
).on("bounds.flows.flow_bounds")
def check(model: Model, flow_bounds: list[FlowBound]) -> Findings:
    """Log-determinants of another weight than their KL."""
    for found in flow_bounds:
        ratio = found.weight / found.kl_weight if found.kl_weight else 1.0
        if abs(ratio - 1) < 1e-3:
            continue
        yield Found(
            model.where(found.determinant),
            label=f"the log-determinant counts {ratio:.4g} times what the KL counts"
            if found.leaves
            else "log p(z_K), and no log-determinant",
            labels=model.labels((found.fact.term.core, "the KL"), (found.bent, "z_K")),
            why="both are parts of one log-density: log q_K(z_K) = log q_0(z_0) - log|det|",
            help="sum (or average) both over the batch in the same way, and subtract the log-determinant",
            facts={"ratio": ratio},
            claim=claims.DeterminantWeight(f"the log-determinant weighs {ratio:.4g} of the KL", bound=found, leaves=found.leaves),
        )
