"""A loss gets the data as prediction and the reconstruction as target.

## What it does
Looks at the order of arguments of losses that are not symmetric: binary cross-entropy (with or without logits),
cross-entropy, Poisson and Gaussian likelihoods.

## Why is this bad
With the arguments exchanged the loss is another function: BCE-with-logits(x, recon) is linear in the reconstruction
and unbounded below. Some versions of torch refuse a target that requires grad, most do not.

## Formula
-log p(x|y) is not symmetric: -x log y - (1 - x) log(1 - y) has the logarithm of the prediction, and the
data as weights.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, eq. 11 (appendix C.1).

## Example
    loss = F.binary_cross_entropy_with_logits(x, recon)
    loss = -(recon * torch.log(x) + (1 - recon) * torch.log(1 - x)).sum()    # the same, written out

## Use instead
    loss = F.binary_cross_entropy_with_logits(recon, x)

## When to ignore
Never; squared and absolute errors are symmetric and not reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, Span, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from vaelint.anatomy.loss.facts import ReconFact


@rule(
    "VAE307",
    "swapped-loss-arguments",
    Severity.ERROR,
    message="a loss gets the data as prediction and the reconstruction as target",
    needs=("reconstruction",),
    basis="replay",
).on("likelihood.likelihood.swapped_arguments", "likelihood.compared_at.exchanged_at")
def check(model: Model, swapped_arguments: Callable[[ReconFact], bool], exchanged_at: Callable[[ReconFact], Span | None]) -> Findings:
    """Asymmetric losses whose first argument is the data."""
    for fact in model.recons:
        if not swapped_arguments(fact):
            continue
        pair = fact.pair
        yield Found(
            exchanged_at(fact),
            label="the data is passed as the prediction",
            labels=model.labels((pair.recon, "the reconstruction, given as target"), (pair.meet, "compared here")),
            why="the loss is not symmetric: exchanged, it is another function of the reconstruction, and not its likelihood",
            help=f"exchange the arguments: {model.written(pair.recon)} first, {model.written(pair.target)} second",
            repair=repairs.SwapArguments(meet=pair.meet),
            claim=claims.Kernel("the gradient is not that of the likelihood", fact=fact, exchanged=True),
        )
