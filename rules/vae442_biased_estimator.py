"""A gradient estimator holds what should move, or moves what should be held.

## What it does
Reads off a real run how the loss weighs log q(z) of each draw, and by which ways its gradient reaches the encoder: through
the draw (the path), or through the posterior's own numbers (the score). Reports log q at a held draw in a plain bound, live
draws in a wake phase, and a live score beside squared shares of the draws.

## Why is this bad
The value of the loss is right and its gradient is another one. With the draw held, log q has no average gradient, and the
posterior shrinks to a point. With the draw live, a wake phase teaches the encoder nothing. With the score live, the doubly
reparameterised gradient of a bound of several draws is biased.

## Formula
E_q[d log q(z) / d phi at held z] = 0. Doubly reparameterised: d L_K / d phi = E[sum_k w_k^2 (d log w_k / d z_k)(d z_k / d phi)].

Source: Roeder et al. 2017, Sticking the landing, eq. 5 to 7; Tucker et al. 2019, Doubly reparameterized gradient
estimators, eq. 8; Bornschein & Bengio 2015, Reweighted wake-sleep, eq. 7.

## Example
    z = q.rsample()
    loss = (q.log_prob(z.detach()) - prior.log_prob(z) - log_likelihood(x, z)).mean()

## Use instead
    z = q.rsample()
    held = Normal(q.loc.detach(), q.scale.detach())
    loss = (held.log_prob(z) - prior.log_prob(z) - log_likelihood(x, z)).mean()

## When to ignore
When another estimator holds these parts on purpose, and its gradient was compared with that of the bound.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE442", "biased-estimator", Severity.ERROR, message="the gradient of the loss is not that of its bound", needs=("site", "loss"))
def check(model: Model) -> Findings:
    """The laws on estimators report these, on the real run."""
    yield from ()
