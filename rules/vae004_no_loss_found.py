"""No loss was found.

## What it does
Looks for the loss in the model's methods, in functions of the same file, in `training_step`, and in what `forward`
returns. Says so when there is none that can be called without guessing; the rules that need no loss still run.
The check is then incomplete, with exit code 2: a model without its loss is not called clean.

## Why is this bad
The reconstruction, the KL and their weights are not checked.

## Example
    vaelint check model.py:VAE --input 32x784

## Use instead
    vaelint check model.py:VAE --input 32x784 --loss train.py:loss_fn

## When to ignore
When only the model itself is to be checked: `--allow-no-loss`, or `allow-no-loss = true` in the target's table.
"""

from vaelint.rule import Findings, Found, Model, setup_rule


@setup_rule("VAE004")
def check(model: Model) -> Findings:
    """A step that leaves no loss."""
    if not model.has_loss:
        yield Found(
            None,
            label="the rules about the loss did not run",
            help="name it: --loss loss_fn, --loss train.py:loss_fn, or write the step out with --step",
        )
