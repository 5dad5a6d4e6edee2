"""The noise is scaled by a raw output that can be negative.

## What it does
Evaluates the sampler's scale over the range of the encoder's head: a standard deviation must be positive, and must be
the one that the KL charges for.

## Why is this bad
`mu + eps * logvar` runs, and is symmetric enough to train a little, but its spread |logvar| is smallest at logvar =
0, where the KL says the posterior has variance 1.

## Example
    z = mu + eps * logvar

## Use instead
    z = mu + eps * torch.exp(0.5 * logvar)

## When to ignore
When the head is an unconstrained sigma and the KL is written with sigma^2: then the rule is silent already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, Span, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import fx

    from vaelint.faults.sampling.clash import Clash
    from vaelint.record.record import MadeDistribution


@rule(
    "VAE206",
    "negative-scale",
    Severity.ERROR,
    message="the noise is scaled by a raw output that can be negative",
    needs=("gaussian",),
).on(
    "sampling.clash.clashes",
    "sampling.negative_scales.negative_scales",
    "sampling.negative_scales.scale_place",
    "sampling.negative_scales.negative_draws",
)
def check(
    model: Model,
    clashes: list[Clash],
    negative_scales: list[tuple[MadeDistribution, fx.Node]],
    scale_place: Callable[[MadeDistribution, fx.Node], Span],
    negative_draws: list[fx.Node],
) -> Findings:
    """The scale is the head itself, and the KL does not read it as a standard deviation."""
    for clash in clashes:
        if not clash.negative:
            continue
        yield Found(
            model.where(clash.scale),
            label=f"the scale is the raw head: {clash.formula_now}",
            labels=model.labels(
                (clash.head, "the head, unbounded"), (clash.site.z, "drawn with it"), (clash.kl, f"the KL reads it as {clash.kl_reads}")
            ),
            why="a standard deviation is positive; here it can be 0 or negative, and it is not the one in the KL",
            help=f"use {clash.formula} as the standard deviation",
            repair=repairs.ScaleAs(clash=clash),
            claim=claims.ScaleNegative("the scale takes negative values", site=clash.site),
        )
    for made, scale in negative_scales:
        yield Found(
            scale_place(made, scale),
            label=f"{made.family} needs a positive scale",
            labels=model.labels((scale, "can be negative")),
            why="torch refuses a scale that is not positive as soon as one appears; without validation the log-density is NaN",
            help="pass the raw output through softplus, or exponentiate half of it",
            claim=claims.ValueRange("the scale takes negative values", node=scale, outside=(0.0, float("inf"))),
        )
    for scale in negative_draws:
        yield Found(
            model.where(scale),
            label=f"{model.written(scale)} can be negative",
            labels=model.labels((scale, "")),
            why="a standard deviation is positive; the KL takes its logarithm, which is NaN as soon as one is negative",
            help="pass the raw output through softplus, or exponentiate half of it",
            claim=claims.ValueRange("the scale takes negative values", node=scale, outside=(0.0, float("inf"))),
        )
