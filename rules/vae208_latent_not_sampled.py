"""z is drawn, but the decoder gets the mean.

## What it does
Finds a draw that never reaches the loss while the decoder is fed with the posterior's mean. On the real run, moves the
noise of a discrete draw: what the decoder reads must follow (a straight-through value that was rounded from the logits,
and not from their noisy softmax, does not).

## Why is this bad
The model is a deterministic autoencoder with a penalty on its code: the decoder never sees the posterior's spread,
the variance head is trained by the KL alone, and samples from the prior decode badly.

## Example
    z = self.reparameterize(mu, logvar)
    recon = self.decode(mu)

## Use instead
    z = self.reparameterize(mu, logvar)
    recon = self.decode(z)

## When to ignore
When the training step is another function than the one checked: name it with --step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from vaelint.anatomy.posterior.sites import Site
    from vaelint.faults.sampling.idle import Entry


@rule(
    "VAE208",
    "latent-not-sampled",
    Severity.ERROR,
    message="z is drawn, but the decoder gets the mean",
    needs=("draw", "loss"),
).on("sampling.idle.idle_draws", "sampling.idle.decoder_entry")
def check(model: Model, idle_draws: list[Site], decoder_entry: Callable[[Site], Entry | None]) -> Findings:
    """The draw is idle and a layer decodes the mean."""
    for site in idle_draws:
        entry = decoder_entry(site)
        if entry is None or entry.uses_scale:
            continue
        yield Found(
            entry.span,
            label=f"decodes {model.written(site.mu)}, not {model.written(site.z)}",
            labels=model.labels((site.z, "z is made here and not used")),
            shapes=(model.row(site.z, "not used"), model.row(site.mu, "decoded"))
            if site.mu is not None
            else (model.row(site.z, "not used"),),
            why="the decoder never sees the posterior's spread: this is a plain autoencoder with a penalty on its code",
            help="give the decoder z",
            repair=repairs.DecodeDraw(entry=entry, site=site),
            claim=claims.ZUnused("two draws give the same reconstruction", site=site),
        )
