"""All codes start at one point.

## What it does
Builds the model and looks at the tables that nearest codes are looked up in: reports a trained one whose rows are all
equal and not 0.

## Why is this bad
Of equal codes the nearest is always the first: it alone is looked up, it alone gets a gradient, and the others stay
where they are. The codebook has one code. `uniform_(-1 / K, -1 / K)`, with a sign too many, does it.

## Example
    self.embedding.weight.data.uniform_(-1 / codes, -1 / codes)

## Use instead
    self.embedding.weight.data.uniform_(-1 / codes, 1 / codes)

## When to ignore
When the codes are set from data before the first step. A table of zeros, which waits for that, is not reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Label, Model, Severity, Span, claims, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import fx

    from vaelint.faults.codes.codebook import EqualCodes


@rule(
    "VAE508",
    "equal-codes",
    Severity.ERROR,
    message="all codes start at one point",
).on("codes.codebook.equal_codes", "gradients.first_values.initialised")
def check(model: Model, equal_codes: list[EqualCodes], initialised: Callable[[fx.Node], Span | None]) -> Findings:
    """Codebooks of one value."""
    for found in equal_codes:
        place = initialised(found.table)
        yield Found(
            place or model.where(found.codebook.index),
            label=f"{model.dims(found.table)[found.axis]} equal codes",
            labels=tuple(x for x in (model.label(found.codebook.index, "the nearest code is looked up here"),) if isinstance(x, Label)),
            why="of equal codes the first is always the nearest: the others are never used and never trained",
            help="start the codes apart: uniform_(-1 / K, 1 / K)",
            claim=claims.EqualRows("the table has one different row", node=found.table, axis=found.axis),
        )
