"""A loss on logits gets values that went through a softmax.

## What it does
Finds categorical likelihoods on logits whose argument is the output of a softmax or a sigmoid.

## Why is this bad
`cross_entropy` applies log-softmax itself. On probabilities the largest class probability it can express is e / (e +
K - 1), about 0.09 for 30 classes: the loss has a high floor and flat gradients.

## Formula
-log p(x = k|a) = -a_k + log sum_j exp(a_j): a is any vector of real numbers.

Source: Bishop 2006, Pattern Recognition and Machine Learning, eq. 4.62 and 4.108.

## Example
    probs = torch.softmax(self.out(h), dim=-1)
    loss = F.cross_entropy(probs.flatten(0, 1), tokens.flatten())

## Use instead
    logits = self.out(h)
    loss = F.cross_entropy(logits.flatten(0, 1), tokens.flatten())

## When to ignore
Never. log_softmax before cross_entropy is redundant but harmless, and is not reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, Span, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import fx

    from vaelint.anatomy.loss.facts import ReconFact


@rule(
    "VAE305",
    "softmax-twice",
    Severity.ERROR,
    message="a loss on logits gets values that went through a softmax",
    needs=("loss",),
).on("likelihood.compared_at.given_at", "likelihood.classes.squashed_scores")
def check(model: Model, given_at: Callable[[ReconFact], Span | None], squashed_scores: list[tuple[fx.Node, fx.Node, fx.Node]]) -> Findings:
    """Categorical likelihoods, and cross-entropies of a classifier, on logits whose argument is a probability."""
    for fact in model.recons:
        squash = model.activation(fact.pair.recon) if fact.takes_class_logits else None
        if squash is None or model.op(squash) not in ("softmax", "sigmoid"):
            continue
        yield _twice(model, given_at(fact), fact.pair.recon, squash)
    for compared, scores, squash in squashed_scores:
        yield _twice(model, model.where(compared), scores, squash)


def _twice(model: Model, place: Span | None, scores: fx.Node, squash: fx.Node) -> Found:
    """Scores that go through a softmax before the one of the loss."""
    return Found(
        place,
        label="applies a softmax to its first argument",
        labels=model.labels((squash, "already a softmax here" if model.op(squash) == "softmax" else "squashed to [0, 1] here")),
        why="the softmax is applied twice: no class can get a probability near 1",
        help="give the loss the logits",
        repair=repairs.RemoveActivation(activation=squash),
        claim=claims.ValueRange("the logits are in [0, 1]", node=scores, low=0.0, high=1.0),
    )
