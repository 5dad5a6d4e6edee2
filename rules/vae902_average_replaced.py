"""A moving average is overwritten at each step.

## What it does
Runs the step with its optimizers, and then the operations again that write an average in place (of weights, of codes,
of counts), with another old value and with another new one. Where both enter and less than 5 % of the old one is
kept, it is reported. A plain copy is not.

## Why is this bad
The decay is applied the wrong way round. The averaged weights are just those of the last step; codes that should
follow the data slowly jump to each batch.

Formula: average = d * average + (1 - d) * new, with d near 1.

Source: Polyak and Juditsky 1992, Acceleration of Stochastic Approximation by Averaging; van den Oord et al. 2017,
Neural Discrete Representation Learning, appendix A.1.

## Example
    slow.mul_(1 - self.decay).add_(live, alpha=self.decay)

## Use instead
    slow.mul_(self.decay).add_(live, alpha=1 - self.decay)

## When to ignore
When a target network is meant to follow within a step or two.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE902", "average-replaced", Severity.WARNING, message="a moving average is overwritten at each step", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on averages reports these, on the real run."""
    yield from ()
