"""Integer arithmetic destroys the data.

## What it does
From the declared range of the input, finds three ways of losing it: a division with rounding by about as much as the
largest value (`x // 255` of bytes, `torch.div(..., rounding_mode="floor")`), a turn of real numbers between 0 and 1
into whole ones that are computed with as real numbers again, and sums or products that leave the type of the bytes:
`5 - 128` is 133 in uint8. Of a number with a fraction that is put into a tensor of whole numbers
(`torch.full_like(labels, 0.9)`) only the whole part is left.

## Why is this bad
In the first two cases the result is 0 nearly everywhere: the model is given black images and learns to paint them. In
the third dark pixels become bright ones. torch says nothing.

## Example
    x = x // 255
    x = (x / 255).to(torch.uint8)
    x = x - 128

## Use instead
    x = x / 255          # a true division gives float32
    x = x.float() - 128

## When to ignore
When a threshold is intended; then write the comparison.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.numerics.whole_numbers import Spoiled

TEXT = {
    "divided": ("0 for all values below {:g}", "the data is rounded away", "divide with /, which gives floats"),
    "cast": ("0 for all values below {:g}", "the data is rounded away", "keep it as floating point"),
    "wrapped": (
        "{:g} is beyond the type, and wraps around",
        "dark values become bright ones",
        "convert it to floating point first: x.float()",
    ),
    "filled": (
        "{:g} is put into an integer tensor",
        "its fractional part is dropped",
        "make it a float tensor: dtype=torch.float32",
    ),
}


@rule(
    "VAE606",
    "whole-numbers",
    Severity.WARNING,
    message="integer arithmetic destroys the data",
).on("numerics.whole_numbers.spoiled_data")
def check(model: Model, spoiled_data: list[Spoiled]) -> Findings:
    """Each such operation."""
    for fact in spoiled_data:
        label, why, advice = TEXT[fact.how]
        yield Found(
            model.where(fact.node),
            label=label.format(fact.number),
            labels=model.labels((fact.source if fact.source.op == "call_function" and fact.source is not fact.node else None, "")),
            why=why,
            help=advice,
            claim=claims.ValueRange(
                "only the integer part is left", node=fact.node, low=float(int(fact.number)), high=float(int(fact.number))
            )
            if fact.how == "filled" and fact.source is fact.node
            else claims.WrapsAround("floating-point arithmetic gives other values", node=fact.node, source=fact.source, ends=fact.ends)
            if fact.how in ("wrapped", "filled")
            else claims.ValuesLeft("few different values are left", node=fact.node, source=fact.source),
        )
