"""The model's own code raises.

## What it does
Runs the step on the declared inputs. Reports the line of an exception that is not about the shapes or ranges of
tensors, which have rules of their own (VAE101, VAE302, VAE304, VAE309).

## Why is this bad
The step does not run, so nothing behind that line can be checked.

## Example
    return self.decoder(self.latent)       # AttributeError

## Use instead
    return self.decoder(z)

## When to ignore
Never: give the inputs and arguments that the code needs, or fix it.
"""

from vaelint.rule import Findings, Model, setup_rule


@setup_rule("VAE007")
def check(model: Model) -> Findings:
    """Found before there is a model to read: the engine reports it."""
    yield from ()
