"""A multiplier multiplies a moving average, through which little of the constraint's gradient comes.

## What it does
Where a multiplier is moved by a moving average of its constraint, and that average is in the loss: moves the
constraint and looks how much of it arrives at what the multiplier multiplies.

## Why is this bad
An average that takes 1 % of each new value lets 1 % of the gradient through. The multiplier is updated as if it weighed
the constraint, but the step follows a hundredth of that weight: the KL wins until the multiplier has grown a hundred
times too large, and then the constraint overshoots.

Source: Rezende & Viola 2018, Taming VAEs, algorithm 1.

## Example
    average = 0.99 * average.detach() + 0.01 * constraint
    loss = kl + multiplier * average

## Use instead
    average = 0.99 * average.detach() + 0.01 * constraint
    loss = kl + multiplier * (constraint + (average - constraint).detach())

## When to ignore
When the multiplier was made larger by the same factor.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE919", "constraint-weakened", Severity.WARNING, message="a constraint's gradient is cut down by a moving average", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on constraints reports these, on the real run."""
    yield from ()
