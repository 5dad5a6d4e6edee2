"""A value of the real pass is infinite or NaN.

## What it does
In the real pass, at the initial weights and on inputs of the declared range, finds the first value that is not finite.

## Why is this bad
A loss or a gradient that is not finite at the first step ends the training: every weight it touches becomes NaN.

## Example
    std = torch.exp(0.5 * logvar)          # logvar of unscaled inputs reaches 1e5

## Use instead
    logvar = logvar.clamp(-20, 10)         # or scale the data to unit size

## When to ignore
When the declared range of the input is wider than the data's.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE702", "non-finite", Severity.ERROR, message="a value is infinite or NaN at the first step")
def check(model: Model) -> Findings:
    """The real pass reports these; tracing has no values."""
    yield from ()
