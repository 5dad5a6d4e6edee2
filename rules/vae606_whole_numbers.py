"""Data of whole numbers is divided with rounding.

## What it does
Reports `//` on an input of whole numbers by about as much as the input's largest value: `x // 255` of bytes.

## Why is this bad
The result is 0 nearly everywhere. The model is given black images and learns to paint them.

## Example
    x = x // 255

## Use instead
    x = x / 255          # a true division gives float32

## When to ignore
When a threshold at that number is meant; then write the comparison.
"""

from vaelint.rule import Claim, Findings, Found, Model, Severity, rule


@rule("VAE606", "whole-numbers", Severity.WARNING, message="data of whole numbers is divided with rounding")
def check(model: Model) -> Findings:
    """Each such division."""
    for node, source, divisor in model.wiring.numbers.floored:
        yield Found(
            model.where(node),
            label=f"0 for all values below {divisor:g}",
            why="the data is rounded away",
            help="divide with /, which gives real numbers",
            claim=Claim("values_left", "few different values are left", {"node": node, "source": source}),
        )
