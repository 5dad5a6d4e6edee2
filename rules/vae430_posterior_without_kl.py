"""One of several posteriors has no KL.

## What it does
In a model that draws from several learned posteriors, looks for the KL (or another term) of each: reports a Gaussian
posterior with a learned scale that is decoded and in no term, where others have their KL.

## Why is this bad
With nothing against it the encoder drives this variance to 0: that level is an autoencoder, and its prior samples are
noise to the layers above the data. In a ladder it is often the first level, whose KL is outside the loop.

## Formula
loss = -E_q[log p(x|z)] + sum_l KL(q(z_l|...) || p(z_l|...)): a KL for every latent that is drawn.

Source: Soenderby et al. 2016, Ladder Variational Autoencoders, eq. 3 and 6.

## Example
    kl = 0
    for level in self.levels:
        z, kl_level = level(z)
        kl = kl + kl_level                 # that of the first z is missing

## Use instead
    kl = gaussian_kl(mu, logvar)
    for level in self.levels: ...

## When to ignore
When the first level is meant to be deterministic in the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.anatomy.posterior.sites import Site
    from vaelint.faults.kl.missing import MissingKl


@rule(
    "VAE430",
    "posterior-without-kl",
    Severity.ERROR,
    message="one of several posteriors has no KL",
    needs=("site", "loss"),
    basis="replay",
).on("kl.missing.missing_kl", "bounds.hierarchies.unheld_sites")
def check(model: Model, missing_kl: MissingKl | None, unheld_sites: list[Site]) -> Findings:
    """Posteriors that no term holds beside others that are held."""
    told = missing_kl  # computed and left out of the sum: VAE412 shows where
    for site in unheld_sites:
        if told is not None and (told.site is site or model.where(told.site.z) == model.where(site.z)):
            continue  # or of another turn of the same loop
        yield Found(
            model.beside(site.z, site.heads[0]),
            label=f"{model.shape_text(site.z)} is drawn from a posterior without a KL",
            labels=model.labels((site.heads[0], "its head")),
            why="nothing keeps this posterior near its prior: its variance goes to 0, and samples from the prior decode to noise",
            help="add the KL of this posterior to the others",
            claim=claims.GradientToScale("the loss only ever asks for a smaller variance", site=site),
        )
