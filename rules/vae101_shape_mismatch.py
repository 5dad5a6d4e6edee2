"""An operation cannot take the shapes it gets.

## What it does
When the step raises because of shapes, shows both operands as symbolic shapes, where each was created, where the
layer was made, which size would fit, and how the shapes changed on the way. The finding comes from the run that
raised, as there is no complete graph for a rule to read.

## Why is this bad
The step does not run. A model whose sizes are written for another image fails only when an image of that size arrives.

## Example
    self.fc_mu = nn.Linear(64 * 8 * 8, latent)     # the features are 64 x 4 x 4

## Use instead
    self.fc_mu = nn.Linear(64 * 4 * 4, latent)

## When to ignore
Never.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE101", "shape-mismatch", Severity.ERROR, message="an operation cannot take these shapes", basis="shapes")
def check(model: Model) -> Findings:
    """Found before there is a model to read: the engine reports it."""
    yield from ()
