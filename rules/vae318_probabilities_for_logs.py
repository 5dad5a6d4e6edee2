"""A loss on log-probabilities gets probabilities.

## What it does
For `nll_loss` and `kl_div`, whose first argument is a log-probability, looks at which values the reconstruction can
take: reports one that is never below 0, such as the output of a softmax.

## Why is this bad
The losses take no logarithm. On probabilities they are linear: -t p. A softmax's gradient is all but 0 where the
prediction is confidently wrong, the value is not a likelihood (it is in [-1, 0]), and beside a KL in nats it weighs
next to nothing.

## Formula
nll_loss(a, k) = -a_k and kl_div(a, t) = sum t (log t - a), with a = log p.

Source: Bishop 2006, Pattern Recognition and Machine Learning, eq. 4.108; the PyTorch documentation, NLLLoss and
KLDivLoss.

## Example
    probs = torch.softmax(self.out(h), dim=1)
    loss = F.kl_div(probs, target, reduction="sum")

## Use instead
    log_probs = torch.log_softmax(self.out(h), dim=1)
    loss = F.kl_div(log_probs, target, reduction="sum")

## When to ignore
Never.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, Span, claims, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from vaelint.anatomy.loss.facts import ReconFact


@rule(
    "VAE318",
    "probabilities-for-logs",
    Severity.ERROR,
    message="a loss on log-probabilities gets probabilities",
    needs=("reconstruction",),
).on("likelihood.classes.probabilities_for_logs", "likelihood.compared_at.compared_at")
def check(
    model: Model, probabilities_for_logs: Callable[[ReconFact], tuple[float, float] | None], compared_at: Callable[[ReconFact], Span | None]
) -> Findings:
    """nll_loss and kl_div on what is never negative."""
    for fact in model.recons:
        reach = probabilities_for_logs(fact)
        if reach is None:
            continue
        squash = model.activation(fact.pair.recon)
        yield Found(
            compared_at(fact),
            label=f"{model.op(fact.pair.meet)} takes log-probabilities",
            labels=model.labels((squash or fact.pair.recon, "probabilities: never below 0")),
            why="no logarithm is taken anywhere: the term is linear in the probabilities, so it is not a likelihood",
            help="give it log_softmax of the logits",
            claim=claims.ValueRange("the values are never negative", node=fact.pair.recon, low=0.0),
        )
