"""A network learns to tell a draw from data that have nothing to do with it.

## What it does
Runs the step with its optimizers. Reported is a loss that holds what a network makes of the data, row by row, against a draw that was
made without the data, while what was decoded from that draw reaches no loss; and one whose network is given what was decoded
from another draw than the one that it is to tell.

## Why is this bad
In the sleep phase of wake-sleep the recognition network learns from dreams: causes from the prior, and the data that the generator makes
of them. Given the real batch instead, it learns the average cause and to ignore its input (Hinton et al. 1995, The wake-sleep algorithm).

## Example
    h = prior.sample((n,))
    dream = generate(h)
    loss = -recognise(x).log_prob(h).sum(1).mean()

## Use instead
    loss = -recognise(dream).log_prob(h).sum(1).mean()

## When to ignore
When the draws are to be noise to the network, as a regulariser.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule(
    "VAE924",
    "dream-not-recognised",
    Severity.ERROR,
    message="a network is to tell a draw from data that know nothing of it",
    needs=("loss",),
)
def check(model: Model) -> Findings:
    """The law on dreams reports these, on the real run."""
    yield from ()
