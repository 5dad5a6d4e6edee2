"""An activation keeps the posterior's standard deviation at 1 or above.

## What it does
Drives the raw output behind the scale to its extremes: if no value makes the standard deviation smaller than 1, the
posterior can never be narrower than the prior.

## Why is this bad
A ReLU (or softplus, or sigmoid) on the log-variance bounds it at 0: sigma >= 1 everywhere. The code cannot carry
information beyond the noise except by inflating mu, and the KL pulls against that.

## Example
    logvar = F.relu(self.fc_logvar(h))

## Use instead
    logvar = self.fc_logvar(h)

## When to ignore
Never for a log-variance. Bounds from above, clamps, and activations on a standard deviation are not reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, Span, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import fx

    from vaelint.anatomy.posterior.sites import Site
    from vaelint.replay.ranges import Range


@rule(
    "VAE212",
    "constrained-logvar",
    Severity.ERROR,
    message="the posterior's standard deviation cannot fall below 1",
    needs=("gaussian",),
).on("sampling.bounded.scale_range", "sampling.bounded.activation_made", "sampling.bounded.divides_noise")
def check(
    model: Model,
    scale_range: Callable[[Site], Range | None],
    activation_made: Callable[[fx.Node], Span | None],
    divides_noise: Callable[[Site], bool],
) -> Findings:
    """Sites whose scale stays at 1 or above whatever the layer puts out."""
    for site in model.gaussian_sites:
        reach = scale_range(site)
        if reach is None or reach.low < 0.999 or not reach.high > reach.low:
            continue
        made = activation_made(reach.bound_by) if reach.bound_by is not None else None
        yield Found(
            made or model.own_place(reach.bound_by or site.scale),
            label="keeps the log-variance at 0 or above",
            labels=model.labels(
                (reach.bound_by if made else None, "applied here"),
                (site.scale, f"{'divides the noise: ' if divides_noise(site) else ''}standard deviation, at least {reach.low:.3g}"),
            ),
            why="sigma < 1 is out of reach: every code carries at least the prior's noise",
            help="leave the log-variance unbounded, or clamp it to a range such as (-10, 10)",
            facts={"lowest_std": reach.low},
            repair=repairs.RemoveActivation(activation=reach.bound_by),
            claim=claims.ValueRange("the root of the precision is at most 1", node=site.scale, high=1.0)
            if divides_noise(site)
            else claims.ValueRange("the standard deviation is at least 1", node=site.scale, low=1.0),
        )
