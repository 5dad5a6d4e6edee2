"""One weight multiplies the KL at two places.

## What it does
Looks for an attribute that is multiplied with the KL twice on its way to the loss: in a helper and again where the loss is
put together. The step is run again with twice the number: both products must follow it.

## Why is this bad
The KL weighs the square of what is set: a beta of 4 is one of 16, a beta of 0.1 is one of 0.01. A sweep over beta, and each figure
that names it, are those of another objective.

## Formula
loss = -E_q[log p(x|z)] + beta KL.

Source: Higgins et al. 2017, beta-VAE, eq. 4.

## Example
    kl = self.beta * kl_divergence(q, p).sum(1).mean()
    return rec + self.beta * kl

## Use instead
    kl = kl_divergence(q, p).sum(1).mean()
    return rec + self.beta * kl

## When to ignore
When the square is intended: `self.beta**2` is not reported.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE436", "weight-twice", Severity.WARNING, message="a weight multiplies the KL twice", needs=("kl",))
def check(model: Model) -> Findings:
    """The law on single weights reports these."""
    yield from ()
