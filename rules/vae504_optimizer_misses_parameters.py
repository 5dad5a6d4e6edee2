"""No optimizer gets some of the parameters that the loss moves.

## What it does
Takes the optimizers that the step builds, else those that the constructor builds and that the file writes out, reads
which parameters they get (`model.encoder.parameters()`, lists and sums of those, groups, also groups that are added),
and reports parameters that receive a gradient and are in none. Silent wherever an expression cannot be read.

## Why is this bad
The missing part never changes: the decoder stays random, or the posterior stays where it started. The loss still
falls, because the rest adapts.

## Example
    optimizer = torch.optim.Adam(model.encoder.parameters())

## Use instead
    optimizer = torch.optim.Adam(model.parameters())

## When to ignore
When a part is frozen on purpose, or an optimizer in another file has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Label, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from vaelint.faults.gradients.missed_parameters import Missed


@rule(
    "VAE504",
    "optimizer-misses-parameters",
    Severity.ERROR,
    message="the optimizer does not get all parameters",
    needs=("loss",),
    basis="shapes",
).on("gradients.missed_parameters.missed_parameters")
def check(model: Model, missed_parameters: list[Missed]) -> Findings:
    """The first optimizer of a set that leaves something out."""
    for missed in missed_parameters:
        named = missed.layers or missed.parameters
        told = f"{', '.join(named[:4])}{' ...' if len(named) > 4 else ''}"
        sorts = missed.branch is not None
        yield Found(
            missed.branch or missed.span,
            label=f"without an else: no list gets {told}" if sorts else f"without {told}",
            labels=(Label(missed.span, "gets these lists"),) if sorts and missed.span is not None else (),
            why=f"{len(missed.parameters)} parameters get a gradient and are never updated",
            help="take what is left in an else" if sorts else "give the optimizer model.parameters()",
            facts={"parameters": list(missed.parameters)},
            repair=repairs.AllParameters(place=missed.span),
            claim=claims.OptimizerGroups("these parameters are in no group of the optimizer", parameters=list(missed.parameters)),
        )
