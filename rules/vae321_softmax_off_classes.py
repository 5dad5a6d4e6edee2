"""A softmax runs over the wrong axis, not the classes.

## What it does
Where a likelihood looks up the probability of a class (`gather`, `nll_loss`), follows the values that it reads back to
the softmax that made them, and compares the two axes. A softmax over the batch has a rule of its own.

## Why is this bad
The probabilities of the classes at one place do not sum to one: the score of the right class can grow without any
other falling, and the steps of a sequence compete with each other instead.

## Formula
log p(c) = s_c - log sum_k exp(s_k), the sum over the classes k.

Source: Bishop 2006, Pattern Recognition and Machine Learning, eq. 4.62.

## Example
    logp = torch.log_softmax(scores, dim=1)            # scores: (B, T, V)
    nll = -logp.gather(2, tokens.unsqueeze(2))

## Use instead
    logp = torch.log_softmax(scores, dim=2)
    nll = -logp.gather(2, tokens.unsqueeze(2))

## When to ignore
Never for a likelihood over classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.likelihood.class_axis import OffClasses


@rule(
    "VAE321",
    "softmax-off-classes",
    Severity.ERROR,
    message="a softmax runs over the wrong axis, not the classes",
    needs=("loss",),
).on("likelihood.class_axis.off_classes")
def check(model: Model, off_classes: list[OffClasses]) -> Findings:
    """Each softmax whose axis is not the one that classes are looked up along."""
    for found in off_classes:
        yield Found(
            model.where(found.softmax),
            label=f"of {model.shape_text(found.softmax)}",
            labels=model.labels((found.reader, f"the class is looked up along axis {found.axis} of {model.shape_text(found.read)}")),
            why="the class probabilities do not sum to one: raising one class does not lower the others",
            help="give the axis of the classes as dim",
            claim=claims.ClassSums("the probabilities of the classes do not sum to one", node=found.read, axis=found.axis),
        )
