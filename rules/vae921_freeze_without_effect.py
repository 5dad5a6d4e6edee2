"""A module is frozen by an attribute that torch does not know, and goes on learning.

## What it does
Finds modules of the model that have an attribute `requires_grad` of their own, set to False, while the loss has a
gradient for their parameters. And parameters that are frozen for a turn of training and are moved in it all the same,
because their optimizer takes zeros for a gradient.

## Why is this bad
`requires_grad` belongs to tensors. A module takes an attribute of any name, so the assignment raises nothing and
changes nothing: a frozen encoder, prior or feature network is trained on, and what was to be held to it moves along.

An optimizer leaves out a parameter whose gradient is None. Where it is a tensor of zeros, as after
`zero_grad(set_to_none=False)`, Adam and SGD with momentum go on along what they remember, and weight decay pulls.

Source: the PyTorch documentation of torch.nn.Module.requires_grad_.

## Example
    model.encoder.requires_grad = False

## Use instead
    model.encoder.requires_grad_(False)

## When to ignore
When the attribute is a flag of your own.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE921", "freeze-without-effect", Severity.WARNING, message="a module that is to be frozen learns", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on what is frozen reports these, on the real run."""
    yield from ()
