"""A schedule writes a number to the optimizer that no step reads.

## What it does
Runs the step several times and notes what it writes to an optimizer under the name of one of its settings: into its
`defaults`, or as an attribute. Reported is a number that moves from run to run while the optimizer's groups keep theirs,
where another number in its place changes nothing.

## Why is this bad
An optimizer steps with the settings of its groups (`param_groups`). Its `defaults` are read when a group is added, and an
attribute `lr` is read by no code of torch. A warm-up or a decay that is written there never acts, and nothing raises: the whole training
runs at the rate that the optimizer was made with.

Source: the PyTorch documentation of torch.optim.Optimizer.

## Example
    optimizer.defaults["lr"] = rate_at(step)

## Use instead
    for group in optimizer.param_groups:
        group["lr"] = rate_at(step)

## When to ignore
When the number is only written down to be shown.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule(
    "VAE926",
    "setting-without-effect",
    Severity.WARNING,
    message="a setting of the optimizer is written where no step reads it",
    needs=("loss",),
)
def check(model: Model) -> Findings:
    """The law on settings reports these, on the real run."""
    yield from ()
