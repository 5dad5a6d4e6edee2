"""Gradients are clipped while the scale of a GradScaler is still in them.

## What it does
Where gradients of a scaled loss are changed before `unscale_`, runs the step with two scales. The parameters must move
alike.

## Why is this bad
The limit is held against gradients that are as many thousand times larger as the scale says. All of them are cut to a
tiny step, whose size moves with the scale.

Source: PyTorch, Automatic Mixed Precision examples, "Working with Unscaled Gradients".

## Example
    scaler.scale(loss).backward()
    clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)

## Use instead
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)

## When to ignore
When the limit is intended for the scaled gradients.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE909", "scaled-gradients-changed", Severity.ERROR, message="gradients are changed with the loss scale in them", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on scales reports these, on the real run."""
    yield from ()
