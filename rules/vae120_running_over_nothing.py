"""A running sum runs along an axis of one entry.

## What it does
Reports a running sum, product or extreme, an order or a turn that the loss is made of, where it runs along an axis that
`unsqueeze` or `None` put in: that axis has one entry.

## Why is this bad
It gives back what it got. Steps that were to add up do not, weights of a stick are its fractions, thresholds are in no
order. The shapes fit, nothing raises, and the model trains on something else.

y_i = x_1 + ... + x_i, along `dim`.

## Example
    left = torch.cumprod(1 - v[:, None], dim=1)       # (B, 1, K)

## Use instead
    left = torch.cumprod(1 - v[:, None], dim=2)

## When to ignore
Never. Axes of one entry that are a setting's, such as one draw, are not reported.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE120", "running-over-nothing", Severity.WARNING, message="a running sum runs along an axis of one entry", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on running sums reports these."""
    yield from ()
