"""The decoder sees the data past the latent.

## What it does
On the real run, holds every draw and moves single elements of the data. Reports a reconstruction whose elements follow
their own targets all the same.

## Why is this bad
The decoder copies its target: the reconstruction is good whatever z is, the posterior falls to the prior, and there is no
data to copy from when sampling.

## Example
    h1 = self.down1(x)
    z = self.draw(self.down2(h1))
    out = self.up1(torch.cat([self.up2(z), h1], 1))

## Use instead
    out = self.up1(self.up2(z))

## When to ignore
When the model only refines what it is given, and is never sampled from.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE225", "data-past-latent", Severity.WARNING, message="the decoder sees the data past the latent", needs=("site", "loss"))
def check(model: Model) -> Findings:
    """The law on what is decoded reports these, on real runs."""
    yield from ()
