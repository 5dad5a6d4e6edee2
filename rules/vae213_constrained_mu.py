"""An activation bounds the posterior's mean.

## What it does
Drives the raw output behind the mean to its extremes: a tanh, sigmoid or ReLU on the mean bounds it.

## Why is this bad
The means can then never cover all of the prior N(0, 1): with a sigmoid every mean is in (0, 1), with a ReLU
half of the space is unused, and the aggregated posterior cannot match the prior.

## Example
    mu = torch.tanh(self.fc_mu(h))

## Use instead
    mu = self.fc_mu(h)

## When to ignore
When the latent space is bounded on purpose (a hypersphere, a torus) and the prior is too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, Span, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import fx

    from vaelint.anatomy.posterior.sites import Site


@rule(
    "VAE213",
    "constrained-mu",
    Severity.WARNING,
    message="an activation bounds the posterior's mean",
    needs=("gaussian",),
).on("sampling.bounded.activation_made", "sampling.drawn_noise.spread_is_the_priors")
def check(model: Model, activation_made: Callable[[fx.Node], Span | None], spread_is_the_priors: Callable[[Site], bool]) -> Findings:
    """Sites whose mean has a bound near the prior's bulk."""
    for site in model.gaussian_sites:
        reach = model.range_of(site.mu)
        if reach is None or reach.bound_by is None or not (reach.low > -3.0 or reach.high < 3.0):
            continue
        if model.op(reach.bound_by) == "normalize" and (spread_is_the_priors(site) or not any(k.site is site for k in model.kls)):
            continue  # a direction, with a divergence of its own, or one of the scale alone
        bound = (
            f"mu in [{reach.low:.3g}, {reach.high:.3g}]"
            if reach.low > -3 and reach.high < 3
            else f"mu >= {reach.low:.3g}"
            if reach.low > -3
            else f"mu <= {reach.high:.3g}"
        )
        made = activation_made(reach.bound_by)
        yield Found(
            made or model.own_place(reach.bound_by),
            label=bound,
            labels=model.labels((reach.bound_by if made else None, "applied here"), (site.z, "drawn around it here")),
            why="the prior puts mass where no mean can go",
            help="take the mean from a linear layer, with no activation",
            facts={"low": reach.low, "high": reach.high},
            repair=repairs.RemoveActivation(activation=reach.bound_by),
            claim=claims.ValueRange(bound, node=site.mu, low=reach.low, high=reach.high),
        )
