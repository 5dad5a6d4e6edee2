"""A reshape reads one axis as another.

## What it does
Compares the sizes before and after each `view` and `reshape`, several in a row as one. Where the axes of a sample
come out in another order, it is reported: sizes that a `permute` would give, from an operation that moves nothing.

## Why is this bad
`reshape` only counts the same memory in another way. `(B, H, W, 3)` read as `(B, 3, H, W)` is no longer an image: a
third of the rows becomes each channel. Shapes are right, so PyTorch says nothing, and the model trains on scrambled
data. The same happens to a code or a label that is repeated as a whole, and then read as maps: the repetitions come first
in memory, so each map shows all entries in turn.

## Example
    x = images.reshape(b, c, h, w)         # images are (b, h, w, c)
    maps = z.repeat(1, h * w).view(b, -1, h, w)

## Use instead
    x = images.permute(0, 3, 1, 2)
    maps = z[:, :, None, None].expand(-1, -1, h, w)

## When to ignore
When the memory really is in that order, and the earlier shape was the wrong one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, rule

if TYPE_CHECKING:
    from vaelint.faults.shapes.reread import Reread


@rule("VAE114", "axes-reread", Severity.WARNING, message="a reshape reads one axis as another", basis="shapes").on("shapes.reread.reread")
def check(model: Model, reread: list[Reread]) -> Findings:
    """Each such change of shape."""
    for found in reread:
        yield Found(
            model.where(found.node),
            label=f"{model.shape_text(found.source)} becomes {model.shape_text(found.node)} without moving anything",
            labels=model.labels((found.source, "")),
            shapes=(model.row(found.source), model.row(found.node, "the same memory, counted in another way")),
            why="the sizes are those of a permutation, but a reshape leaves the memory in its order: entries of different axes get mixed",
            help=f"move the axes: {model.written(found.source)}.permute({', '.join(map(str, found.order))})"
            if found.order
            else "repeat each entry by itself: value[..., None, None].expand(-1, -1, height, width), or repeat_interleave",
        )
