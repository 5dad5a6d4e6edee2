"""An optimizer that takes part in the step never steps.

## What it does
Runs the step several times on one model. An optimizer whose gradients are cleared and computed in each must step in one
of them. Reported where another optimizer steps in its place, or where its gradients are cleared.

## Why is this bad
The network that it holds keeps its initial values, and another one is moved twice, once along the gradient of a loss
that was not meant for it.

## Example
    critic_loss.backward()
    optimizer_vae.step()

## Use instead
    critic_loss.backward()
    optimizer_critic.step()

## When to ignore
When the optimizer begins to step after more than a few turns.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE908", "optimizer-never-steps", Severity.ERROR, message="an optimizer never steps", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on optimizers reports these, on the real run."""
    yield from ()
