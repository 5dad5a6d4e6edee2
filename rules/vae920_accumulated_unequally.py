"""Of several passes that add up to one step, one term is divided by their number and another one is not.

## What it does
Where a step accumulates gradients over several passes: looks which addends of the loss are divided by the number of
passes. All are, or none.

## Why is this bad
The gradients of the passes add up. With four of them the term that is not divided counts four times as much against the
other one as the code says: the KL collapses the posterior, or the reconstruction drowns it.

## Example
    for part in batch.chunk(self.parts):
        error, kl = self.terms(part)
        (error / self.parts + kl).backward()
    optimizer.step()

## Use instead
    for part in batch.chunk(self.parts):
        error, kl = self.terms(part)
        ((error + kl) / self.parts).backward()
    optimizer.step()

## When to ignore
When the weight of the term is meant to grow with the number of passes.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE920", "accumulated-unequally", Severity.WARNING, message="accumulated terms are not divided alike", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on passes that add up reports these, on the real run."""
    yield from ()
