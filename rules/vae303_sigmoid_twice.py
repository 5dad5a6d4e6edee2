"""A loss on logits gets values that went through a sigmoid.

## What it does
Finds Bernoulli likelihoods on logits (by the gradient of the loss, not by its name) whose argument cannot leave [0,
1].

## Why is this bad
`binary_cross_entropy_with_logits` applies the sigmoid itself. On values in [0, 1] the probability stays in [0.5,
0.73]: black pixels cannot be reconstructed, and the gradient is nearly flat.

## Formula
-log p(x|a) = softplus(a) - x a = -x log s(a) - (1 - x) log(1 - s(a)), s the sigmoid: a is any real number.

Source: Bishop 2006, Pattern Recognition and Machine Learning, eq. 4.90; Kingma & Welling 2014, Auto-Encoding
Variational Bayes, appendix C.1.

## Example
    recon = torch.sigmoid(self.out(h))
    loss = F.binary_cross_entropy_with_logits(recon, x)

## Use instead
    recon = self.out(h)
    loss = F.binary_cross_entropy_with_logits(recon, x)

## When to ignore
Never.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, Span, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from vaelint.anatomy.loss.facts import ReconFact


@rule(
    "VAE303",
    "sigmoid-twice",
    Severity.ERROR,
    message="a loss on logits gets values that went through a sigmoid",
    needs=("reconstruction",),
).on("likelihood.compared_at.given_at")
def check(model: Model, given_at: Callable[[ReconFact], Span | None]) -> Findings:
    """Likelihoods on logits whose reconstruction is squashed to [0, 1]."""
    for fact in model.recons:
        reach = model.range_of(fact.pair.recon) if fact.takes_logits else None
        if reach is None or reach.low < -1e-9 or reach.high > 1 + 1e-9:
            continue
        squash = model.activation(fact.pair.recon) or reach.bound_by
        yield Found(
            given_at(fact),
            label="applies a sigmoid to its first argument",
            labels=model.labels((squash, f"already in [{reach.low:.3g}, {reach.high:.3g}] here"))
            + model.birth_labels(squash, "the activation is made here"),
            why="the sigmoid is applied twice: the probability stays in [0.5, 0.73]",
            help="drop the activation and keep the loss on logits, or keep it and use binary_cross_entropy",
            repair=repairs.RemoveActivation(activation=squash),
            claim=claims.ValueRange("the logits are in [0, 1]", node=fact.pair.recon, low=0.0, high=1.0),
        )
