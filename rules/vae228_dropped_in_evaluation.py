"""A dropout that evaluation mode does not turn off.

## What it does
Runs the step with the whole model in evaluation mode. Reported is a dropout that still sets values to 0: a call of
`F.dropout` that is not told the mode, a layer that is made again at each call or kept in a plain list.

## Why is this bad
The default of `F.dropout` is `training=True`. The posterior's mean, every reconstruction and every figure of an evaluation
have noise in them that only training should have, and two evaluations of one sample differ.

Source: Srivastava et al. 2014, Dropout, section 1; the PyTorch documentation of torch.nn.functional.dropout.

## Example
    h = F.dropout(F.relu(self.fc1(x)), 0.3)

## Use instead
    h = F.dropout(F.relu(self.fc1(x)), 0.3, training=self.training)

## When to ignore
When dropout in evaluation is intended: `training=True` says so, and is not reported.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE228", "dropped-in-evaluation", Severity.WARNING, message="a dropout acts in evaluation mode too", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on evaluation reports these, on the real run."""
    yield from ()
