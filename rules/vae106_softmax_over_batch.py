"""A softmax runs over the batch.

## What it does
Reports `softmax`, `log_softmax` and `gumbel_softmax` on the way from the input to the reconstruction whose axis is
the batch.

## Why is this bad
The values of the samples of a batch then compete with each other and sum to one over the batch. The result for a
sample depends on the rest of its batch, and a batch of one gives ones everywhere.

## Example
    attention = torch.softmax(scores, dim=0)       # scores: (B, T, 1)

## Use instead
    attention = torch.softmax(scores, dim=1)

## When to ignore
When weights over the batch are meant, as in importance resampling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from vaelint.faults.batch.mixing import Mixing


@rule("VAE106", "softmax-over-batch", Severity.ERROR, message="a softmax runs over the batch").on("batch.mixing.softmaxed")
def check(model: Model, softmaxed: list[Mixing]) -> Findings:
    """Each softmax whose entries are of different samples."""
    for found in softmaxed:
        yield Found(
            model.where(found.node),
            label=f"sums to one over the batch of {model.shape_text(found.source)}",
            labels=model.labels((found.source, "")),
            shapes=(model.row(found.source),),
            when="B > 1; at B = 1 all values are 1",
            why="the samples of a batch compete with each other",
            help="give the axis of the classes or steps as dim, -1 for the last",
            repair=repairs.SoftmaxAxis(node=found.node),
            claim=claims.PoisonRow("changing one sample changes the values of others", node=found.node),
        )
