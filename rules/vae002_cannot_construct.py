"""The model cannot be built.

## What it does
Builds the model from the arguments given with `--init`, and from those that the input's sizes or a default settle.
Reports arguments that are missing, with the signature, and constructors that raise, with their line.

## Why is this bad
Nothing else can be checked.

## Example
    vaelint check model.py:VAE --input 32x784

## Use instead
    vaelint check model.py:VAE --input 32x784 --init latent_dim=20

## When to ignore
Never: the exit code is 2.
"""

from vaelint.rule import Findings, Model, setup_rule


@setup_rule("VAE002")
def check(model: Model) -> Findings:
    """Found before there is a model to read: the engine reports it."""
    yield from ()
