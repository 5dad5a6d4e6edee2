"""A value is brought to length one along another axis than the one it is compared along.

## What it does
On the real run, looks at products and distances of two values of which one has length one along the axis that is summed
over. The other one is reported where it has length one along another axis.

## Why is this bad
Between directions a product is the cosine of their angle. `torch.nn.functional.normalize` works on dim 1 where nothing
is said: of `(batch, places, channels)` these are the places. Each vector then has any length, the largest are chosen
whatever they point at, and what one place puts out moves all others.

## Example
    z = F.normalize(self.down(h))          # (B, T, C): over T
    index = (z @ F.normalize(codes).T).argmax(-1)

## Use instead
    z = F.normalize(self.down(h), dim=-1)

## When to ignore
Never.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule(
    "VAE119", "length-along-another-axis", Severity.WARNING, message="a value has length one along another axis than it is compared along"
)
def check(model: Model) -> Findings:
    """The law on directions reports these, on the real run."""
    yield from ()
