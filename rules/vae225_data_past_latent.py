"""The decoder sees the data past the latent.

## What it does
On the real run, holds every draw and moves single elements of the data. Reports a reconstruction whose elements follow
their own targets all the same. A draw that is read in vain, while the reconstruction is made of what the encoder has
before its heads, is seen without a run.

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

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.sampling.features_decoded import Features


@rule("VAE225", "data-past-latent", Severity.WARNING, message="the decoder sees the data past the latent", needs=("draw", "loss")).on(
    "sampling.features_decoded.features_decoded"
)
def check(model: Model, features_decoded: Features | None) -> Findings:
    """Features that are decoded while the draw is read in vain; the law on what is decoded reports the rest, on real runs."""
    if features_decoded is not None:
        yield Found(
            features_decoded.span,
            label=f"decodes {model.written(features_decoded.source)}, what the encoder has before the draw",
            labels=model.labels((features_decoded.idle, "made of the draw and not used")),
            shapes=(model.row(features_decoded.source, "decoded"), model.row(features_decoded.idle, "not used")),
            why="the latent has nothing to tell: this is a plain autoencoder with a KL beside it, and a sample has no features to decode",
            help="decode what was made of z",
            claim=claims.ZUnused("two draws give the same reconstruction", node=features_decoded.recon),
        )
