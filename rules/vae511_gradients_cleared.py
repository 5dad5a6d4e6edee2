"""The optimizer steps over gradients that were cleared after the backward pass.

## What it does
In a step that trains by itself: a step of an optimizer none of whose parameters has a gradient left, because
`zero_grad()` came between `backward()` and `step()`.

Also the gradients of a loop's turns that are cleared in the next turn, where one step follows after the loop.

## Why is this bad
The step moves nothing. The loss goes up and down with the batches and never falls.

## Example
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()

## Use instead
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

## When to ignore
Never.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Label, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.record.record import IdleStep


@rule(
    "VAE511",
    "gradients-cleared",
    Severity.ERROR,
    message="the optimizer steps over gradients that were cleared",
    needs=("loss",),
).on("gradients.saved.idle_steps")
def check(model: Model, idle_steps: list[IdleStep]) -> Findings:
    """Steps of optimizers after their gradients were cleared."""
    for idle in idle_steps:
        yield Found(
            idle.cleared or idle.span,
            label="takes the gradients away before they are used",
            labels=(Label(idle.span, "these are lost" if idle.turns else "steps without a gradient"),) if idle.span is not None else (),
            why="only the last part of the batch trains the model: the gradients of the others are cleared before the step"
            if idle.turns
            else "the step moves nothing: the model keeps its initial values",
            help="clear the gradients once, before the loop" if idle.turns else "clear the gradients before backward(), or after the step",
            claim=None if idle.turns else claims.StepMovesNothing("the step leaves its parameters as they were", of=_names(model, idle)),
            basis="shapes" if idle.turns else None,
        )


def _names(model: Model, idle: IdleStep) -> tuple[str, ...]:
    """The parameters that the step is over."""
    return tuple(name for name, p in model.record.model.named_parameters() if id(p) in idle.of)
