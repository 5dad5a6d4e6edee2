"""Gradients that add up over several passes are limited after each of them.

## What it does
Where a step accumulates gradients: looks whether `clip_grad_norm_` is called after each pass, on what all passes up
to then have left.

## Why is this bad
The second call limits a sum that holds what the first one limited already. With norms above the limit, the share of
the first of n passes falls with each pass after it, and the last pass counts in full: the step follows a part of the
batch, and another number of passes is another training.

Source: Pascanu et al. 2013, On the difficulty of training recurrent neural networks, algorithm 1: the gradient of the
whole step is rescaled.

## Example
    for part in batch.chunk(4):
        (loss_of(part) / 4).backward()
        clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()

## Use instead
    for part in batch.chunk(4):
        (loss_of(part) / 4).backward()
    clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()

## When to ignore
When the limit is so large that no pass comes near it.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE922", "limit-repeated", Severity.WARNING, message="accumulated gradients are limited after each pass", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on limits of sums reports these, on the real run."""
    yield from ()
