"""A divisor can be exactly zero.

## What it does
Reports divisions by a ReLU, by what is clamped at 0, by a constant that is 0, and by the standard deviation of the
data (`x / x.std(1)`) with no constant added. Divisions by exponentials, softplus, norms of layer outputs, and anything
with an epsilon are fine. For data of no declared range it is only a remark: measured values hardly ever agree.

## Why is this bad
A ReLU is exactly 0 for half of its inputs, and a blank image has no deviation. The quotient is infinite or NaN, and so
is every weight after the next step.

## Example
    x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)

## Use instead
    x = (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-6)

## When to ignore
When the data is known to vary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.numerics.quotients import Divisor


@rule("VAE704", "zero-divisor", Severity.WARNING, message="a divisor can be exactly zero").on("numerics.quotients.zero_divisors")
def check(model: Model, zero_divisors: list[Divisor]) -> Findings:
    """Each line with such a division."""
    for found in zero_divisors:
        of_data, always = found.data is not None, found.by is found.divisor and found.divisor not in model.flow.learned
        yield Found(
            model.where(found.node),
            label=f"{model.written(found.divisor)} is 0 "
            + ("whatever comes in" if always else "where the data does not vary" if of_data else "for half of its inputs"),
            labels=model.labels((found.by if found.by is not found.divisor else None, "exactly 0 here")),
            when="" if always else "the data does not vary, as in a blank image" if of_data else f"the {model.op(found.by)} cuts off",
            why="the quotient is infinite or NaN",
            help="divide by something else" if always else "add a small constant to the divisor",
            severity=None if found.declared else Severity.INFO,
            claim=claims.ConstantData("on data of equal values it is not finite", node=found.node, input=found.data)
            if of_data
            else claims.LogOfZero("where it cuts off the quotient is not finite", node=found.node),
        )
