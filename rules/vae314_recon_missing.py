"""No term of the loss depends on the decoder's output.

## What it does
Looks for a term that sees what the decoder made of z.

## Why is this bad
Without a reconstruction the encoder is pushed to the prior and the decoder gets no gradient at all.

## Formula
loss = -E_q[log p(x|z)] + KL(q(z|x) || p(z)): two terms.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, eq. 3.

## Example
    recon, mu, logvar = model(x)
    loss = kl(mu, logvar)

## Use instead
    recon, mu, logvar = model(x)
    loss = F.mse_loss(recon, x, reduction="sum") + kl(mu, logvar)

## When to ignore
When the step checked is only a part of the training: name the whole with --step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, Span, claims, rule

if TYPE_CHECKING:
    from torch import fx


@rule(
    "VAE314",
    "recon-missing",
    Severity.ERROR,
    message="no term of the loss depends on the decoder's output",
    needs=("draw", "loss"),
).on("kl.missing.loss_place", "likelihood.likelihood.unused_reconstruction", "kl.missing.blind_term")
def check(model: Model, loss_place: Span | None, unused_reconstruction: fx.Node | None, blind_term: fx.Node | None) -> Findings:
    """A decoder whose output is computed and never compared with anything."""
    if unused_reconstruction is not None:
        yield Found(
            model.where(blind_term) or loss_place,
            label="holds no reconstruction" if blind_term is None else "compares the data with nothing decoded",
            labels=model.labels((unused_reconstruction, "the decoder's output, not used")),
            why="nothing trains the decoder, and nothing keeps the code informative",
            help="add the negative log-likelihood of the input under the decoder's output",
            claim=claims.GradientReaches("the loss gives the decoder's output no gradient", node=unused_reconstruction),
        )
