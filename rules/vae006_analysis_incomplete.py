"""The analysis is incomplete.

## What it does
Says that the check itself stopped, and why: a time limit, memory, a process that died, or a fault of vaelint.
Findings made before that are kept.

## Why is this bad
A part that was not checked is not clean.

## Example
    vaelint check model.py:VAE --input 32x784 --timeout 5

## Use instead
    vaelint check model.py:VAE --input 32x784 --timeout 120

## When to ignore
Never: the exit code is 2.
"""

from vaelint.rule import Findings, Model, setup_rule


@setup_rule("VAE006")
def check(model: Model) -> Findings:
    """Found when the check itself stops: the engine reports it."""
    yield from ()
