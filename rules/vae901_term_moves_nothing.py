"""A term of the loss trains none of its optimizer's parameters.

## What it does
In a step that trains by itself: moves the draw of a real run. A term of the loss that follows, and whose gradient
arrives only at parameters that another optimizer owns, is reported where the gradient to its own ends.

## Why is this bad
The term trains nothing. A generator's loss on a detached reconstruction has a gradient in the critic, which the
critic's own step clears; the decoder never gets the critic's gradient.

## Example
    score = self.critic(recon.detach())
    loss = error + kl + F.softplus(-score).mean()
    loss.backward()
    opt_vae.step()

## Use instead
    score = self.critic(recon)
    loss = error + kl + F.softplus(-score).mean()
    loss.backward()
    opt_vae.step()

## When to ignore
When the other network is trained by this gradient in a later step, on purpose.

Source: Larsen et al. 2016, Autoencoding beyond pixels using a learned similarity metric, algorithm 1.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE901", "term-moves-nothing", Severity.WARNING, message="a term of the loss trains nothing", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on what addends pull at reports these, on the real run."""
    yield from ()
