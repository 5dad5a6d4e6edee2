"""A backward that was written by hand is not the derivative of its forward.

## What it does
Moves, on the real run, single elements of the inputs of a user-defined `autograd.Function`. Where the output follows
smoothly, the gradient of its `backward` must be that slope. Functions that are flat (rounding, a quantiser) or that
return their input (a reversed or scaled gradient) are meant to have another gradient, and are left alone. But what is let
through in one direction only, where the function is flat, must lead out of there: a lower bound that stops the gradient
which would raise a value below it, and lets the other one through, never lets the value come back.

## Why is this bad
Forward is right, so the loss is right; the parameters behind it do not move downhill.

## Example
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.log1p(x.exp())

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * x.exp()

## Use instead
    return g * torch.sigmoid(x)

## When to ignore
When the gradient is an estimate on purpose, and smooth.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule(
    "VAE513", "own-gradient", Severity.WARNING, message="a backward written by hand is not the derivative of its forward", needs=("loss",)
)
def check(model: Model) -> Findings:
    """The law on own gradients reports these, on the real run."""
    yield from ()
