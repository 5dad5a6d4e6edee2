"""A layer that should get z gets mean and log-variance.

## What it does
Finds decoders that read the posterior's parameters, log-variance included, and no sample.

## Why is this bad
Mean and log-variance are the parameters of a distribution, not a code: without the draw there is no bottleneck of
noise, and the decoder cannot be run on a sample of the prior, for which there is no log-variance.

## Example
    h = self.latent_layer(torch.cat([mu, logvar], dim=1))
    return self.decoder(h)

## Use instead
    z = self.reparameterize(mu, logvar)
    h = self.latent_layer(z)
    return self.decoder(h)

## When to ignore
When a decoder conditioned on uncertainty is intended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.sampling.idle import Entry


@rule(
    "VAE209",
    "moments-for-latent",
    Severity.ERROR,
    message="a layer that should get z gets the posterior's parameters",
    needs=("loss",),
).on("sampling.idle.undrawn_entries")
def check(model: Model, undrawn_entries: list[Entry]) -> Findings:
    """The decoder is fed from the log-variance head with no draw between."""
    for entry in undrawn_entries:
        yield Found(
            entry.span,
            label="reads the posterior's parameters, not a sample",
            labels=model.labels((entry.mu, ""), (entry.scale, "")),
            why="there is no sampling: the decoder reads parameters of a distribution, and cannot decode samples of the prior",
            help="draw z = mu + std * torch.randn_like(std) and give z to the layer",
            claim=claims.ZUnused("two runs give the same reconstruction", node=entry.node),
        )
