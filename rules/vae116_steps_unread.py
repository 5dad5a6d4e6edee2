"""Of the states of a recurrent layer, only the first is read.

## What it does
Asks for the gradient of the loss in each step that a recurrent layer puts out, where it runs forwards alone. Step 0 has
seen none of the others: where it alone has a gradient, and the last state is not read either, the others are computed
for nothing. Reported as well is a loop that calls a recurrent layer step by step, each time with the same state.

## Why is this bad
In a loop over the steps, all of them are decoded from one state. In an encoder, the posterior sees the first step only. A
layer that starts each step from one state knows nothing of the steps before.

## Example
    for i in range(bars):
        notes = self.decode(states[:, 0])

## Use instead
    for i in range(bars):
        notes = self.decode(states[:, i])

## When to ignore
When the first step is all that is needed.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE116", "steps-unread", Severity.WARNING, message="of the states of a recurrent layer, only the first is read", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on places reports these, on the real run."""
    yield from ()
