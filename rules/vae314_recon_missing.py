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

from vaelint.rule import Findings, Found, Model, Severity, Span, claims, rule


@rule(
    "VAE314",
    "recon-missing",
    Severity.ERROR,
    message="no term of the loss depends on the decoder's output",
    needs=("draw", "loss"),
).on("kl.missing.loss_place")
def check(model: Model, loss_place: Span | None) -> Findings:
    """A decoder whose output is computed and never compared with anything."""
    place = model.likelihood.unused_reconstruction
    blind = model.objective.blind_term
    if place is not None:
        yield Found(
            model.where(blind) or loss_place,
            label="holds no reconstruction" if blind is None else "compares the data with nothing that was decoded",
            labels=model.labels((place, "the decoder's output, not used")),
            why="nothing trains the decoder, and nothing keeps the code informative",
            help="add the negative log-likelihood of the input under the decoder's output",
            claim=claims.GradientReaches("the loss gives the decoder's output no gradient", node=place),
        )
