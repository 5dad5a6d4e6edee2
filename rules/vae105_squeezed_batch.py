"""A squeeze drops the batch axis of a batch of one.

## What it does
Reports `squeeze()` without an axis on a tensor that has the batch as a dimension, if at a batch of one the step then
raises, or the posterior, z or the reconstruction loses a dimension.

## Why is this bad
`squeeze()` removes every dimension of size 1. For one sample, which is what generation and the last batch of an epoch
may bring, that is the batch as well.

## Example
    h = self.pool(x).squeeze()

## Use instead
    h = self.pool(x).flatten(1)

## When to ignore
When a batch of one never occurs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Label, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from vaelint.faults.batch.single import Squeezed


@rule(
    "VAE105",
    "squeezed-batch",
    Severity.WARNING,
    message="a squeeze drops the batch axis of a batch of one",
    basis="shapes",
).on("batch.single.squeezed")
def check(model: Model, squeezed: list[Squeezed]) -> Findings:
    """Each squeeze that changes the step."""
    for found in squeezed:
        changed = model.labels((found.changed, "has lost its batch axis at B = 1"))
        yield Found(
            model.where(found.node),
            label=f"{model.shape_text(found.source)} loses its B at B = 1",
            labels=(Label(found.raises, f"raises at B = 1: {found.text[:90]}"),) if found.raises is not None else changed,
            shapes=(model.row(found.source), model.row(found.node)),
            when="B = 1",
            why="squeeze() without an axis removes every dimension of size 1",
            help="name the axes (squeeze(-1)), or use flatten(1)",
            repair=repairs.SqueezeAxis(node=found.node, source=found.source),
            claim=claims.SqueezeSingle("at B = 1 the batch axis is gone here", node=found.node),
        )
