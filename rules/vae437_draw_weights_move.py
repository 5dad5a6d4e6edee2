"""The shares of several draws pass a gradient of their own.

## What it does
Finds softmaxes over the draws of one input whose scores also are what they weigh, and moves the score of each draw by
itself. Reports a loss that some draws raise by explaining the data better.

## Why is this bad
The gradient of the importance-weighted bound is a sum of the draws' own gradients, weighed by their shares (Burda et al.
2016, equation 14). A sum of shares times log-weights has that gradient only where the shares are held. With a gradient
of their own, a draw below the average of its sample is made worse: the encoder learns to put all weight on one draw.

## Formula
d log (1/K) sum_k w_k = sum_k (w_k / sum_j w_j) d log w_k.

Source: Burda et al. 2016, Importance Weighted Autoencoders, eq. 8 and 14.

## Example
    share = torch.softmax(log_w, dim=1)
    loss = -(share * log_w).sum(1).mean()

## Use instead
    share = torch.softmax(log_w, dim=1).detach()
    loss = -(share * log_w).sum(1).mean()

## When to ignore
When the soft maximum over draws is the objective.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule(
    "VAE437",
    "draw-weights-move",
    Severity.WARNING,
    message="the shares of several draws pass a gradient of their own",
    needs=("site", "loss"),
)
def check(model: Model) -> Findings:
    """The law on better draws reports these."""
    yield from ()
