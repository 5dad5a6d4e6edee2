"""No sampling and no KL: not variational.

## What it does
Says so when nothing is drawn between the encoder and the decoder and no term of the loss involves a prior: a plain
autoencoder. This does not concern vector quantisation, or models that compare codes with draws from the prior
(adversarial, MMD).

## Why is this bad
Nothing ties the codes to a prior, so decoding a draw from N(0, I) gives noise. If the model was meant to be
variational, the sampling or the KL is missing.

## Example
    z = self.encoder(x)
    return self.decoder(z)

## Use instead
    mu, logvar = self.encoder(x).chunk(2, dim=1)
    z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)

## When to ignore
When a plain autoencoder is intended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, setup_rule

if TYPE_CHECKING:
    from vaelint.faults.sampling.idle import Frozen
    from vaelint.faults.sampling.undrawn import Undrawn


@setup_rule("VAE005").on("sampling.idle.frozen_noise", "sampling.undrawn.undrawn_posterior")
def check(model: Model, frozen_noise: list[Frozen], undrawn_posterior: Undrawn | None) -> Findings:
    """A model without draws, KL, codebook or prior; noise that was drawn once (VAE204) and a KL without a draw (VAE216) were meant."""
    if frozen_noise or undrawn_posterior is not None or model.sites or model.idle_sites or model.kls or model.codebooks or model.draws:
        return
    if any(term.role in ("kl", "prior", "discrepancy", "mixed", "vq") for term in model.terms):
        return
    yield Found(
        None,
        label="nothing is drawn between input and reconstruction",
        why="a plain autoencoder: the rules about posterior, noise and KL do not apply",
        help="if it is meant to be variational: draw z around the encoder's mean, and add the KL to the loss",
    )
