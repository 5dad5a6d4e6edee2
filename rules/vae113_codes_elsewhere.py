"""Codes come back to the wrong places.

## What it does
On the real run, moves one element of a quantised model's encoding until it gets another code. Where codes and values
are compared, only entries at that element's place may change, along the axis of the code's entries.

## Why is this bad
A `view` moves nothing: it reads the same memory with another shape. Every place is then compared with the code of
another place, and the decoder gets a scrambled map. Shapes and types are right, and nothing raises.

## Example
    flat = z.transpose(1, 2).reshape(-1, c)            # (B, C, T) as rows of C
    q = self.codebook(nearest(flat)).view(b, c, t)

## Use instead
    q = self.codebook(nearest(flat)).view(b, t, c).transpose(1, 2)

## When to ignore
Never.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE113", "codes-elsewhere", Severity.ERROR, message="codes come back to the wrong places")
def check(model: Model) -> Findings:
    """The law on places reports these, on the real run."""
    yield from ()
