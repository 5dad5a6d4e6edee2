"""Codes come back to other places than those that asked for them.

## What it does
Moves one element of what a quantised model looks up, on the real run, until it gets another code: where codes and values are
compared, what moves must lie at that element's place, along the axis of the code's entries and no other.

## Why is this bad
A `view` moves nothing, it counts the same memory in another way. Every place is then held against the code of another place,
and the decoder gets a scrambled map. Shapes and types are right, and nothing raises.

## Example
    flat = z.transpose(1, 2).reshape(-1, c)            # (B, C, T) as rows of C
    q = self.codebook(nearest(flat)).view(b, c, t)

## Use instead
    q = self.codebook(nearest(flat)).view(b, t, c).transpose(1, 2)

## When to ignore
Never.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE113", "codes-elsewhere", Severity.ERROR, message="codes come back to other places than those that asked for them")
def check(model: Model) -> Findings:
    """The law on places reports these, on the real run."""
    yield from ()
