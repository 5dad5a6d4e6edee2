"""The weights of an average add up to something else than one.

## What it does
On the real run, puts ones instead of the values of an attention, and random scores. Each average must be 1. Where it is
the sum over an axis of the weights that the softmax did not run over, it is reported.

## Why is this bad
With as many queries as keys the weights are square, and a softmax over the wrong one of two axes fits. Each place is then
shared out among those that ask, even one that has nothing to do with them, and what asks gets more or less than a
whole. Nothing raises, and the model trains, worse.

## Example
    score = torch.einsum("bqc,bkc->bqk", q, k)
    out = score.softmax(dim=1) @ v            # over the queries

## Use instead
    out = score.softmax(dim=2) @ v

## When to ignore
Where places are meant to compete for each other. Slots, clusters and capsules, which compete for their inputs, and
weights that are normalised twice are not reported.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE118", "average-of-no-whole", Severity.WARNING, message="the weights of an average do not add up to one")
def check(model: Model) -> Findings:
    """The law on averages reports these, on the real run."""
    yield from ()
