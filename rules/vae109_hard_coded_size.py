"""A hard-coded number does not follow its constructor argument.

## What it does
With `--perturb`, gives each whole number of the constructor (and of the lists and configuration objects it takes) another
value, alone and together with the sizes of the input it may be tied to, and runs the step on tensors without values. Where
no such run succeeds, it looks for the number in the code that, set to the new value as well, makes it succeed.

## Why is this bad
The argument promises a choice that the model does not have. Another value raises far from the number, folds the batch into
another size, or gives a reconstruction that is broadcast against the input, and trains silently.

## Example
    def __init__(self, in_channels=3): ...
        self.final = nn.Conv2d(32, 3, 3, padding=1)

## Use instead
    def __init__(self, in_channels=3): ...
        self.final = nn.Conv2d(32, in_channels, 3, padding=1)

## When to ignore
When the argument is there for show and only ever has this value; then remove it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Label, Model, Severity, rule

if TYPE_CHECKING:
    from vaelint.perturb.culprits import LeftBehind, Refold


@rule(
    "VAE109",
    "hard-coded-size",
    Severity.WARNING,
    message="a size is hard-coded although an argument sets it",
    needs=("perturbation",),
    basis="shapes",
).on("shapes.sizes_left_behind.sizes_left_behind", "shapes.sizes_left_behind.refolds")
def check(model: Model, sizes_left_behind: list[LeftBehind], refolds: list[Refold]) -> Findings:
    """The literals that a repair needed; those of one line are one finding."""
    for left in sizes_left_behind:
        knob, outcome, (first, *others) = left.knob, left.outcome, left.literals
        along = "".join(f", {symbol}={size}" for symbol, size in left.sizes.items())
        place = outcome.place
        yield Found(
            first.span,
            label=f"stays {first.value} when {knob.shown} becomes {left.to}",
            labels=(
                *(Label(x.span, f"and {x.value}") for x in others),
                *((Label(place, outcome.text),) if place is not None and place.line != first.span.line else ()),
            ),
            when=f"{knob.shown}={left.to}{along}",
            why=f"{outcome.text}; with {' and '.join(map(str, left.becomes))} here it runs",
            notes=(left.silent,) if left.silent else (),
            help=f"compute it from {knob.shown}",
            facts={"argument": knob.shown, "value": knob.value, "tried": left.to, "literal": first.value, "becomes": left.becomes[0]},
        )
    for refold in refolds:
        yield Found(
            refold.literal.span,
            label=f"{refold.literal.value} holds for this input size only",
            when=f"{refold.symbol}={refold.size}",
            why=f"nothing raises there: {refold.outcome.text}",
            help="write x.flatten(1), or check the size",
            severity=Severity.INFO,
            facts={"symbol": refold.symbol, "tried": refold.size, "literal": refold.literal.value},
        )
