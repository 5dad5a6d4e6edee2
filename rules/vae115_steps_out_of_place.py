"""The posterior of a step is made of other steps of the sequence.

## What it does
Asks, on the real run and with every draw held, which steps of the data the posterior of step t depends on. It must see step t, or one at a
constant distance. Where none fits, the states were computed in another order than they are read in.

## Why is this bad
A network that runs backwards in time (Krishnan et al. 2017) gives its states from the last step to the first. Read in that order, the
posterior of the first step is made of the last, and is compared with the first. Shapes are right, so PyTorch says nothing.

## Example
    states, _ = self.rnn(x.flip(1))
    for t in range(T):
        mu = self.mean(states[:, t])

## Use instead
    states, _ = self.rnn(x.flip(1))
    states = states.flip(1)

## When to ignore
When steps are meant to be encoded from others, as in a test of long memory.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE115", "steps-out-of-place", Severity.WARNING, message="the posterior of a step does not see its own step", needs=("site",))
def check(model: Model) -> Findings:
    """The law on steps reports these, on the real run."""
    yield from ()
