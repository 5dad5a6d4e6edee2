"""Running statistics give another spread than that of the data.

## What it does
Runs two steps one after the other, with data that are far from 0. Where a running mean is exact after both, what the data
are divided by must be the spread of what was seen. Moving averages are not asked.

## Why is this bad
A merge of two variances needs the number of samples on each side. With a count that already has the new batch in it, the
first batch adds the square of its mean to the variance: the data are scaled down, and the scale drifts in training.

Formula: M2 = M2_a + M2_b + delta^2 n_a n_b / (n_a + n_b).

Source: Chan, Golub & LeVeque 1979, Updating formulae and a pairwise algorithm for computing sample variances.

## Example
    self.count += n
    self.m2 += batch_m2 + delta.pow(2) * self.count * n / total

## Use instead
    self.m2 += batch_m2 + delta.pow(2) * self.count * n / total
    self.count += n

## When to ignore
When the spread is about something else than the data that are divided by it.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE925", "spread-of-other-data", Severity.WARNING, message="running statistics give another spread than that of the data")
def check(model: Model) -> Findings:
    """The law on running statistics reports these, on the real run."""
    yield from ()
