"""The importance-weighted bound is not the logarithm of a mean over the draws.

## What it does
Finds log-sum-exp, log-mean-exp and softmax over importance weights and checks which axis they reduce: the samples, not
the batch. Finds logarithms that are taken of each weight before the mean, and bounds that are not 0 when all weights
are 1: their log K is missing, or added.

## Why is this bad
The bound is the mean over x of log 1/K sum_k w_k (Burda et al. 2016, eq. 8). Over the batch axis it mixes the weights
of different inputs; a mean of logarithms in its place is the plain ELBO.

## Formula
L_K = log (1/K) sum_k p(x, z_k) / q(z_k|x): the logarithm of a mean over the K samples, for each x.

Source: Burda et al. 2016, Importance Weighted Autoencoders, eq. 8.

## Example
    return torch.logsumexp(log_w, dim=1) - math.log(self.k)      # log_w: (K, B)
    bound = torch.logsumexp(log_w, dim=0).mean()      # log_w: (B, K)
    bound = log_w.exp().log().mean(1)                 # the mean of the logarithms
    bound = torch.logsumexp(log_w, dim=0) + math.log(self.k)

## Use instead
    return torch.logsumexp(log_w, dim=0) - math.log(self.k)

## When to ignore
When a mixture over the batch is intended (the aggregated posterior in beta-TC-VAE is recognised).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from torch import fx

    from vaelint.faults.bounds.draw_bounds import FlawedBound


@rule(
    "VAE418",
    "iwae-reduction",
    Severity.ERROR,
    message="the importance-weighted bound is not the log of a mean over the draws",
    needs=("site", "loss"),
    basis="replay",
).on("kl.missing.misplaced_logsumexp", "bounds.draw_bounds.flawed_bounds")
def check(model: Model, misplaced_logsumexp: list[fx.Node], flawed_bounds: list[FlawedBound]) -> Findings:
    """Log-mean-exp over the batch, and bounds whose logarithm or constant is off."""
    for node in misplaced_logsumexp:
        source = node.all_input_nodes[0]
        yield Found(
            model.where(node),
            label=f"{model.shape_text(source)} to {model.shape_text(node)}: the batch is gone, the samples are left",
            labels=model.labels((source, "")),
            shapes=(model.row(source), model.row(node, "lacks B")),
            why="weights of different inputs are averaged with each other; each input's own samples are what the bound averages",
            help="reduce over the axis of the samples",
            repair=repairs.ReduceSamples(node=node),
            claim=claims.BroadcastShape("the batch is gone", nodes=[node, source]),
        )
    for flaw in flawed_bounds:
        yield Found(
            model.where(flaw.node),
            label=flaw.what,
            labels=model.labels((flaw.source, "the weights of the draws")),
            shapes=(model.row(flaw.source),),
            why="the bound is log 1/K sum_k w_k for each input: other reductions are another objective, or another number",
            help=flaw.help,
            claim=flaw.claim,
            severity=Severity.WARNING if flaw.draws else None,  # a constant: the number is off, the gradients are not
        )
