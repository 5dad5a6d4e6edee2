"""The KL holds the posterior to its own encoder, not to the prior.

## What it does
For a posterior that is made of two Gaussians, the encoder's and one computed from the draw above, looks at which of
the two the KL is taken to. Reports a KL to the encoder's where no term of the loss sees the other.

## Why is this bad
In a ladder the Gaussian from above is the prior p(z_l | z_l+1) that samples are made with (Sonderby et al. 2016,
section 2.1). If the KL is taken to the encoder's half, nothing pulls posterior and prior together: the decoder was
not trained on samples from the prior.

## Formula
KL(q(z|x, y) || p(z|y)): the prior is of the condition alone, not of what is to be encoded.

Source: Sohn et al. 2015, Learning Structured Output Representation using Deep Conditional Generative Models, eq. 4.

## Example
    mu, logvar = merge(mu_e, logvar_e, mu_t, logvar_t)
    kl = gaussian_kl((mu, logvar), (mu_e, logvar_e))

## Use instead
    kl = gaussian_kl((mu, logvar), (mu_t, logvar_t))

## When to ignore
When the second Gaussian is not a prior.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.bounds.hierarchies import HeldToEncoder


@rule(
    "VAE429",
    "kl-to-encoder",
    Severity.ERROR,
    message="the KL holds the posterior to its own encoder, not to the prior",
    needs=("site", "loss"),
    basis="replay",
).on("bounds.hierarchies.held_to_encoder")
def check(model: Model, held_to_encoder: list[HeldToEncoder]) -> Findings:
    """Merged posteriors whose KL sees the encoder's half."""
    for found in held_to_encoder:
        yield Found(
            model.beside(found.kl.node, found.prior[0]),
            label="the KL is taken to the encoder's Gaussian",
            labels=model.labels(
                (found.encoder[0], "the encoder's half"),
                (found.prior[0], "computed from the draw above: the prior"),
                (found.site.z, "drawn here"),
            ),
            why="the prior p(z | z above) is in no term of the loss: it is not trained, yet samples start from it",
            help="take the KL to the mean and log-variance that are computed from the draw above",
            claim=claims.KlSees("the KL moves with the encoder's half alone", leaf=found.kl, encoder=found.encoder, prior=found.prior),
        )
