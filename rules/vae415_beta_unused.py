"""A KL weight does not weigh the KL against the reconstruction.

## What it does
Looks for attributes that hold a constructor argument and are multiplied with the KL beside the loss, in a logged
value say, or that are named as its weights (beta, kl_weight, kl_coeff, ...; the finding says if only the name
suggests it), and whose value does not change the loss: the step is run again with another value. And for such
arguments, with a number for a default, of the function that puts the loss together, which nothing that the loss
depends on reads. Where another weight, an argument of the loss say, multiplies the KL instead, it is information
only. And a weight that multiplies the whole loss: with twice the weight the loss is twice as large.

## Why is this bad
The hyper-parameter has no effect: a sweep over beta compares identical objectives.

## Formula
loss = -E_q[log p(x|z)] + beta KL.

Source: Higgins et al. 2017, beta-VAE, eq. 4.

## Example
    self.beta = beta
    ...
    return rec + kl  # or self.beta * (rec + kl)

## Use instead
    self.beta = beta
    ...
    return rec + self.beta * kl

## When to ignore
When it is used by another training function than the one checked.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, Span, claims, repairs, rule

if TYPE_CHECKING:
    from vaelint.faults.schedule.schedule import UnusedWeight


@rule(
    "VAE415",
    "beta-unused",
    Severity.WARNING,
    message="a KL weight does not weigh the KL against the reconstruction",
    needs=("kl",),
    basis="shapes",
).on("schedule.weights.unused_weights", "kl.missing.loss_place")
def check(model: Model, unused_weights: list[UnusedWeight], loss_place: Span | None) -> Findings:
    """Named weights that leave the loss as it is."""
    for weight in unused_weights:
        yield Found(
            loss_place,
            label=f"{weight.name} does not enter",
            labels=(weight.label,) if weight.label is not None else (),
            why=f"{weight.name}{'' if math.isnan(weight.value) else f' = {weight.value!r}'} has no effect on the objective",
            help=f"multiply the KL by {weight.name}" if not weight.instead else f"remove {weight.name}, or pass it on as {weight.instead}",
            repair=None if weight.instead or not weight.stored else repairs.UseWeight(name=weight.name),
            notes=(
                *((f"{weight.instead} multiplies the KL",) if weight.instead else ()),
                *((f"only its name suggests that {weight.name} is a weight of the KL",) if weight.by_name else ()),
            ),
            severity=Severity.INFO if weight.instead else None,
            claim=claims.WeightHasNoEffect("the loss is the same for another value", name=weight.name) if weight.stored else None,
        )
