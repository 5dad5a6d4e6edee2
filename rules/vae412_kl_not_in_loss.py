"""No KL reaches the loss.

## What it does
Looks for a term that holds the posterior in check: a KL, a Monte Carlo estimate of it, a distance to the prior.
Reports a Gaussian posterior with a learned scale and none of these, and a KL that is computed and not added.

## Why is this bad
With nothing against it the encoder drives the variance to 0: an autoencoder, whose prior samples are noise.

## Formula
loss = -E_q[log p(x|z)] + KL(q(z|x) || p(z)): two terms.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, eq. 3.

## Example
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    loss = rec

## Use instead
    loss = rec + kl

## When to ignore
When the step checked is only a part of the training, or the weight is 0 at its start: then give a step at which it is
not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, Span, claims, repairs, rule

if TYPE_CHECKING:
    from vaelint.faults.kl.missing import MissingKl


@rule(
    "VAE412",
    "kl-not-in-loss",
    Severity.ERROR,
    message="no KL reaches the loss",
    needs=("gaussian", "loss"),
    basis="replay",
).on("kl.missing.missing_kl", "kl.missing.loss_place")
def check(model: Model, missing_kl: MissingKl | None, loss_place: Span | None) -> Findings:
    """A learned posterior with nothing that holds it."""
    if missing_kl is not None:
        yield Found(
            loss_place or model.where(missing_kl.computed),
            label="the KL is multiplied by 0"
            if missing_kl.nullified is not None
            else f"this step's loss holds no KL; a branch of {missing_kl.later} adds a term of the posterior"
            if missing_kl.later
            else "the loss holds no KL"
            if len(model.sites) < 2
            else "the loss holds no KL of this latent",
            labels=model.labels((missing_kl.computed, "a KL is computed here and not added"))
            if missing_kl.computed is not None
            else model.labels((missing_kl.site.z, "the posterior is drawn here")),
            why="nothing keeps the posterior near the prior: the variance goes to 0, and samples from the prior decode to noise",
            help="add the KL to the loss",
            repair=repairs.AddKl(place=loss_place, computed=missing_kl.computed),
            claim=claims.GradientToScale("the loss only ever asks for a smaller variance", site=missing_kl.site),
            severity=Severity.INFO if missing_kl.later else None,
        )
