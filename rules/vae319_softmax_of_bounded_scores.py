"""A softmax gets scores that are too close together.

## What it does
For class probabilities that are compared with the data, looks at the bounds of their scores: reports a
softmax whose scores are squashed (by a sigmoid, a tanh) so that no class can get even half of the probability.

## Why is this bad
With scores in [0, 1] the largest probability of K classes is e / (e + K - 1): 0.23 for 10. The model cannot make a
confident prediction, the likelihood has a high floor, and all its gradients are small.

## Formula
p_k = exp(a_k) / sum_j exp(a_j): with all a in [l, h] no p_k is above 1 / (1 + (K - 1) exp(l - h)).

Source: Bishop 2006, Pattern Recognition and Machine Learning, eq. 4.62.

## Example
    h = torch.sigmoid(self.out(h))
    probs = torch.softmax(h, dim=1)

## Use instead
    probs = torch.softmax(self.out(h), dim=1)

## When to ignore
When the flat distribution is intended. Scores that are squashed and then multiplied are not reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from vaelint.anatomy.loss.facts import ReconFact
    from vaelint.faults.likelihood.classes import Capped


@rule(
    "VAE319",
    "softmax-of-bounded-scores",
    Severity.WARNING,
    message="a softmax gets scores that are too close together",
    needs=("reconstruction",),
).on("likelihood.classes.capped_softmax")
def check(model: Model, capped_softmax: Callable[[ReconFact], Capped | None]) -> Findings:
    """Softmaxes that cannot choose."""
    for fact in model.recons:
        capped = capped_softmax(fact)
        if capped is None:
            continue
        yield Found(
            model.where(capped.node),
            label=f"of {capped.classes} classes none can get more than {capped.largest:.2g}",
            labels=model.labels((model.activation(capped.scores), f"scores are in [{capped.low:.2g}, {capped.high:.2g}]")),
            why="the softmax needs scores without bounds to give a class a probability near 1",
            help="give the softmax the layer's output",
            facts={"largest": capped.largest, "classes": capped.classes},
            claim=claims.ValueRange("no probability passes the bound", node=capped.node, low=-1e9, high=capped.largest),
        )
