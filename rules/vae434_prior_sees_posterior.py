"""The prior in the KL sees the draw that it should predict.

## What it does
Moves one draw of a real run and holds everything else: the prior that judges this draw in closed form must stay as it
is. It holds all draws and asks which elements of the data move the posterior and which its prior: some must move the
posterior only. And it exchanges the weights: a KL that is 0 whatever they are is the one of the posterior to itself.

## Why is this bad
A prior that has read the draw, or the data of its own step, follows the posterior instead of predicting it. The KL
falls to 0 and constrains nothing, and when sampling, the prior is needed before that draw exists.

## Formula
p(z_t | z_<t, x_<t) and p(z | c): everything after the bar is known before z_t is drawn.

Source: Chung et al. 2015, A Recurrent Latent Variable Model for Sequential Data, eq. 5; Sohn et al. 2015, Learning
Structured Output Representation using Deep Conditional Generative Models, eq. 4.

## Example
    h = self.cell(torch.cat([x_t, z_t], 1), h)
    prior = self.prior(h)                      # h has read x_t and z_t
    kl = kl_divergence(posterior, prior)

## Use instead
    prior = self.prior(h)                      # the state before this step
    kl = kl_divergence(posterior, prior)
    h = self.cell(torch.cat([x_t, z_t], 1), h)

## When to ignore
Never.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE434", "prior-sees-posterior", Severity.ERROR, message="the prior in the KL sees the draw that it should predict", needs=("kl",))
def check(model: Model) -> Findings:
    """The laws on priors report these: a draw is moved on the real run, weights are exchanged."""
    yield from ()
