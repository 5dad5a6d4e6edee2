"""A moving average of weights is kept in the weights themselves.

## What it does
Runs the step with its optimizers. Reported is an average in place, `lerp_` or `mul_` and `add_`, whose old and whose new value are one
parameter, and that one is moved by an optimizer.

## Why is this bad
`copy.copy(model)`, or an attribute that is bound to the model, shares its parameters. The "average" is the live model at each step:
what is evaluated and saved as the smoothed model is not smoothed, and `mul_` with `add_` even shrinks the weights.

## Example
    self.average = copy.copy(model)
    for a, p in zip(self.average.parameters(), model.parameters()):
        a.lerp_(p, 0.001)

## Use instead
    self.average = copy.deepcopy(model)

## When to ignore
When the mixture of a parameter with itself is intended.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE916", "average-of-itself", Severity.WARNING, message="a moving average shares its weights with the model", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on averages reports these, on the real run."""
    yield from ()
