"""A diagonal pairs sample i with feature i.

## What it does
Follows the samples of the batch through the graph and reports `diagonal`, `diag` and `trace` over the batch axis and
an axis of the samples' own.

## Why is this bad
Entry i of such a diagonal is feature i of sample i: which feature counts depends on the sample's position in the
batch, and the length is the smaller of batch and features. Nothing raises.

## Example
    variance = torch.diagonal(logvar.exp()).mean()         # logvar: (B, L)

## Use instead
    variance = torch.diag_embed(logvar.exp()).mean(0)      # (L, L): the mean over the batch

## When to ignore
Never. A diagonal over two axes of samples (all pairs) or over two of features is not reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.batch.covariances import CrossedDiagonal


@rule(
    "VAE111",
    "diagonal-across-samples",
    Severity.ERROR,
    message="a diagonal pairs sample i with feature i",
    needs=("loss",),
).on("batch.covariances.crossed_diagonals")
def check(model: Model, crossed_diagonals: list[CrossedDiagonal]) -> Findings:
    """Diagonals over the batch and another axis."""
    for found in crossed_diagonals:
        texts = model.dims(found.source)
        yield Found(
            model.where(found.node),
            label=f"over {texts[found.axes[0]]} and {texts[found.axes[1]]}: entry i is feature i of sample i",
            labels=model.labels((found.source, "")),
            shapes=(model.row(found.source), model.row(found.node)),
            why="which feature of a sample counts depends on its place in the batch",
            help="make a matrix for each sample with torch.diag_embed, or reduce one of the axes",
            claim=claims.DiagonalEntries("the entries belong to one sample each", node=found.node),
        )
