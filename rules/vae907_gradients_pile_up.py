"""Gradients that a step has used are still there when the next ones are added.

## What it does
Where the step trains over several batches: an optimizer steps along gradients that still hold what an earlier step has
used, because nothing cleared them in between. Where one iteration clears some gradients and leaves others, which the
next iteration adds to: those of one of two networks, or those of a network in half precision whose optimizer holds
copies. Gradients that are accumulated before one step are left alone.

## Why is this bad
Each step follows the sum of all batches so far, computed for weights that are long gone. The steps grow, and training
runs away or circles.

## Example
    for x in batches:
        model(x).backward()
        optimizer.step()

## Use instead
    for x in batches:
        optimizer.zero_grad()
        model(x).backward()
        optimizer.step()

## When to ignore
When the sum over all turns is intended.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE907", "gradients-pile-up", Severity.ERROR, message="gradients of an earlier turn are used again", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on gradients used once reports these, on the real run."""
    yield from ()
