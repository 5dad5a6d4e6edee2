"""Rows that are compared with a codebook hold several places of one channel.

## What it does
Follows the feature map of a convolution to the rows that are compared with the codes of a vector-quantised model.
Reports the `view` or `reshape` that cuts `(B, C, H, W)` into rows of C numbers without moving the channels last.

## Why is this bad
`(B, C, H, W)` is stored channel by channel: a row of C numbers is then a piece of one channel at C neighbouring
places, and not the C channels of one place. The codes quantise something other than what the decoder gets back, and a
view to `(B, H, W, C)` afterwards puts every value in the wrong place. The shapes are right throughout. In the paper
the vector of all channels at one place is compared with each code (van den Oord et al. 2017, Neural Discrete
Representation Learning, eq. 2 and section 3.1).

## Example
    flat = h.view(-1, self.dim)                        # h: (B, C, H, W), dim = C

## Use instead
    flat = h.permute(0, 2, 3, 1).reshape(-1, self.dim)

## When to ignore
When pieces of a channel are to be quantised. Codes as long as a whole map, or a line of it, are not reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.codes.code_rows import CodeRows


@rule(
    "VAE112",
    "codes-across-places",
    Severity.ERROR,
    message="rows for the codebook hold several places of one channel",
).on("codes.code_rows.code_rows")
def check(model: Model, code_rows: list[CodeRows]) -> Findings:
    """Each view that cuts a feature map into rows of one channel."""
    for found in code_rows:
        yield Found(
            model.where(found.fold),
            label=f"{model.shape_text(found.origin)} becomes {model.shape_text(found.fold)}",
            labels=model.labels((found.codebook.index, "the nearest code is chosen here")),
            shapes=(model.row(found.origin), model.row(found.fold, "a row is a piece of one channel")),
            why="a code represents neighbouring places of one channel, not all channels of one place",
            help="move the channels last first: permute(0, 2, 3, 1).reshape(-1, dim), and back after the lookup",
            claim=claims.RowsOfChannels("a row holds values of fewer channels than it has places", origin=found.origin, rows=found.rows),
        )
