"""The inputs do not fit the model's signature.

## What it does
Binds each `--input` to an argument of `forward` by its name, else by its position. Reports missing inputs, extra
inputs, and inputs with unknown names.

## Why is this bad
Nothing else can be checked.

## Example
    vaelint check model.py:VAE --input 32x784            # forward(self, x, labels)

## Use instead
    vaelint check model.py:VAE --input x=32x784 --input labels=32:int64[0,10)

## When to ignore
Never: the exit code is 2.
"""

from vaelint.rule import Findings, Model, setup_rule


@setup_rule("VAE003")
def check(model: Model) -> Findings:
    """Found before there is a model to read: the engine reports it."""
    yield from ()
