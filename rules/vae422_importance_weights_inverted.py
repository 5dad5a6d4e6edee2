"""The worse of several draws gets the larger weight.

## What it does
Finds softmaxes and log-sum-exps over the draws of one input and follows them to the loss: reports those that weigh a
draw the more, the larger the loss of that draw is, or the worse it explains the input. Which axis holds the draws is
tried out: with equal noise the entries along it are equal.

## Why is this bad
The importance-weighted bound is log 1/K sum_k w_k with w_k = p(x, z_k) / q(z_k | x), and the gradient of a draw is
weighted by w_k (Burda et al. 2016, equations 8 and 13). With the loss instead of log w_k, the worst draws are trained
on, and the others are nearly ignored: the bound is looser than with one draw.

## Formula
d log (1/K) sum_k w_k = sum_k (w_k / sum_j w_j) d log w_k, with w_k = p(x, z_k) / q(z_k|x).

Source: Burda et al. 2016, Importance Weighted Autoencoders, eq. 8 and 14.

## Example
    log_weight = nll + kl                                   # (B, K), each a loss
    weight = torch.softmax(log_weight, dim=-1)
    loss = (weight * log_weight).sum(-1).mean()

## Use instead
    log_weight = -(nll + kl)
    loss = -(torch.logsumexp(log_weight, dim=-1) - math.log(K)).mean()

## When to ignore
When training on the worst draw is intended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.anatomy.loss.facts import ReconFact
    from vaelint.faults.bounds.importance import Inverted


@rule(
    "VAE422",
    "importance-weights-inverted",
    Severity.ERROR,
    message="the worse of several draws gets the larger weight",
    needs=("site", "loss"),
    basis="replay",
).on("bounds.importance.inverted_weights", "bounds.importance.inverted_likelihoods")
def check(model: Model, inverted_weights: list[Inverted], inverted_likelihoods: list[ReconFact]) -> Findings:
    """Weights over draws that grow with the loss."""
    for found in inverted_weights:
        yield Found(
            model.where(found.node),
            label=f"grows with the loss of a draw, over the {model.dims(found.score)[found.axis]} draws of an input",
            labels=model.labels((found.score, "")),
            shapes=(model.row(found.score, "one loss a draw"),),
            why="a draw should count by how well it explains the input: its weight is exp(-loss), not exp(loss)",
            help="use minus the loss as the log-weight: -(logsumexp(-loss, dim) - log(K))",
            claim=claims.WeightsOfDraws(
                "the draw with the larger loss has the larger weight", node=found.node, score=found.score, axis=found.axis
            ),
        )
    for fact in inverted_likelihoods:
        yield Found(
            model.where(fact.pair.meet),
            label="lowers the weight of the draw that explains the input better",
            labels=model.labels((fact.term.core, "the likelihood in the weight of a draw")),
            why="log w = log p(x|z) + log p(z) - log q(z|x): an error instead of the log-likelihood makes the worst draw count most",
            help="subtract the error in the log-weight, or add the log-likelihood",
        )
