"""The encoder's gradient is a million times smaller or larger than the decoder's.

## What it does
In the real pass, at the initial weights, compares the root mean square of the gradient in the
encoder's first weights with that in the decoder's parameters. Every report of a real pass gives the ratio.

## Why is this bad
No learning rate serves both. With a gradient that vanished on the way, the encoder stays random while the decoder
learns the mean of the data; with one that exploded, the first steps throw it away.

## Example
    self.encoder = nn.Sequential(*(m for _ in range(24) for m in (nn.Linear(64, 64), nn.Sigmoid())))

## Use instead
    self.encoder = nn.Sequential(*(m for _ in range(24) for m in (nn.Linear(64, 64), nn.LayerNorm(64), nn.SiLU())))

## When to ignore
When the two parts are trained at learning rates of their own that make up for it. Adam and its like divide each gradient by its own
size: where a training was observed with one of them, only a ratio beyond 1e12 is reported.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule(
    "VAE705", "gradient-ratio", Severity.WARNING, message="the encoder's gradient is a million times smaller or larger than the decoder's"
)
def check(model: Model) -> Findings:
    """The real pass reports it; tracing has no values."""
    yield from ()
