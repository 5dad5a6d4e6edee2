"""An activation keeps the posterior's standard deviation within narrow bounds.

## What it does
Drives the layer that puts out the scale from far below to far above, and looks at the standard deviation that comes out.
A remark where it stays between two bounds, the lower of them above 0.3 and below 1: `tanh` on a log-variance leaves
0.61 to 1.65. From 1 upwards it is VAE212.

## Why is this bad
The encoder can hardly express a precise code: it has to use larger means instead, which the KL penalises.
Reconstructions stay weak. Nothing is wrong with the formula, so this is a remark.

## Example
    logvar = torch.tanh(self.fc_logvar(h))

## Use instead
    logvar = self.fc_logvar(h)              # or 6 * torch.tanh(...), or a clamp to (-10, 10)

## When to ignore
When the spread of the posterior is meant to be nearly fixed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from vaelint.anatomy.posterior.sites import Site
    from vaelint.replay.ranges import Range


@rule(
    "VAE220",
    "narrow-scale",
    Severity.INFO,
    message="the posterior's standard deviation has narrow bounds",
    needs=("gaussian",),
).on("sampling.bounded.scale_range")
def check(model: Model, scale_range: Callable[[Site], Range | None]) -> Findings:
    """Sites whose scale has a lower bound near that of the prior, and an upper one."""
    for site in model.gaussian_sites:
        reach = scale_range(site)
        if reach is None or reach.bound_by is None or not 0.3 < reach.low < 0.999 or not reach.low < reach.high < 10:
            continue
        yield Found(
            model.where(reach.bound_by),
            label=f"keeps it between {reach.low:.3g} and {reach.high:.3g}",
            labels=model.labels((site.scale, "standard deviation")),
            why="no code can be much more precise than the prior",
            help="leave the log-variance unbounded, or clamp it to a range such as (-10, 10)",
            facts={"lowest_std": reach.low, "highest_std": reach.high},
            claim=claims.ValueRange(
                "the standard deviation stays between the bounds", node=site.scale, low=0.999 * reach.low, high=1.001 * reach.high
            ),
        )
