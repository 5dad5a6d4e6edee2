"""A KL weight is read from the arguments and not used.

## What it does
In the functions that put the loss together, looks for a local name of a KL weight (beta, kl_weight, kld_weight, ...)
that is assigned from an argument and read nowhere.

## Why is this bad
The caller gives a weight that has no effect: the KL counts in full. Beside a squared error that is a mean over the data it
is then thousands of times too heavy, and the posterior collapses.

## Formula
loss = -E_q[log p(x|z)] + beta KL.

Source: Higgins et al. 2017, beta-VAE, eq. 4.

## Example
    def loss_function(self, *args, **kwargs):
        kld_weight = kwargs["M_N"]
        ...
        return rec + kl

## Use instead
        return rec + kld_weight * kl

## When to ignore
When the argument is there for callers that serve several models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.schedule.dead_weights import DeadWeight


@rule(
    "VAE431",
    "weight-not-applied",
    Severity.WARNING,
    message="a KL weight is read from the arguments and not used",
    needs=("kl", "loss"),
    basis="shapes",
).on("schedule.dead_weights.dead_weights")
def check(model: Model, dead_weights: list[DeadWeight]) -> Findings:
    """Local weights without a use."""
    for weight in dead_weights:
        yield Found(
            weight.span,
            label=f"{weight.name} is used nowhere in {weight.function}()",
            why=f"the argument {weight.argument} has no effect on the objective",
            notes=(f"only its name suggests that {weight.name} is a weight of the KL",),
            help=f"multiply the KL by {weight.name}, or do not ask for it",
            claim=claims.ArgumentHasNoEffect("the loss is the same for another value", function=weight.function, argument=weight.argument),
        )
