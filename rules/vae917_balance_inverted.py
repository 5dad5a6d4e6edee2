"""A weight that is to balance two gradients is the inverse of what balances them.

## What it does
Where a step weighs a term by a number that it makes of the gradients of two terms: takes the gradients of the weighed
term larger, then those of the other one, and looks whether the weight falls and rises (Esser et al. 2021, Taming Transformers
for High-Resolution Image Synthesis, eq. 7).

## Why is this bad
Such a weight is there so that neither term drowns the other one. Inverted, the term with the larger gradient gets the
larger weight: training follows it alone.

## Example
    weight = adversarial_gradient.norm() / (error_gradient.norm() + 1e-4)
    loss = error + weight.detach() * adversarial

## Use instead
    weight = error_gradient.norm() / (adversarial_gradient.norm() + 1e-4)
    loss = error + weight.detach() * adversarial

## When to ignore
When the term with the larger gradient is to be favoured.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE917", "balance-inverted", Severity.WARNING, message="a balancing weight is the wrong way round", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on balances reports these, on the real run."""
    yield from ()
