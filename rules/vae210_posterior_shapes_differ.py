"""Mean and scale of the posterior have different shapes.

## What it does
Compares the shapes of mu and of the scale at the draw.

## Why is this bad
A scale of shape (B, 1) broadcasts over the latent: one standard deviation for all components. The KL, summed over its
own smaller tensor, then charges for one component instead of L, or is stretched in its turn.

## Example
    self.fc_logvar = nn.Linear(hidden, 1)

## Use instead
    self.fc_logvar = nn.Linear(hidden, latent_dim)

## When to ignore
When an isotropic posterior is intended, and the KL multiplies the log-variance by L.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from vaelint.anatomy.loss.facts import KlFact
    from vaelint.anatomy.posterior.sites import Site


@rule(
    "VAE210",
    "posterior-shapes-differ",
    Severity.WARNING,
    message="mean and scale of the posterior have different shapes",
    needs=("gaussian",),
    basis="shapes",
).on(
    "sampling.drawn_noise.meets_a_matrix",
    "sampling.drawn_noise.is_averaged_out",
    "sampling.drawn_noise.stretched_axes",
    "sampling.drawn_noise.is_counted_out",
)
def check(
    model: Model,
    meets_a_matrix: Callable[[Site], bool],
    is_averaged_out: Callable[[Site], bool],
    stretched_axes: Callable[[Site], list[str]],
    is_counted_out: Callable[[Site, KlFact], bool],
) -> Findings:
    """Sites where the scale is stretched over the mean, or the mean over the scale."""
    for site in model.gaussian_sites:
        if site.mu is None or site.scale is None or not site.scale_heads or meets_a_matrix(site):
            continue
        if is_averaged_out(site):
            continue
        if not (missing := stretched_axes(site)):
            continue
        if any(is_counted_out(site, fact) for fact in model.kls):
            continue
        head = site.scale_heads[0]
        yield Found(
            model.where(site.z),
            label=f"stretched over {', '.join(missing)} here",
            labels=model.labels((site.mu, ""), (head, "")),
            shapes=(model.row(site.mu), model.row(site.scale, f"lacks {', '.join(missing)}", wanted=site.mu)),
            why="one number scales all components of z, and the KL counts it once or stretches it",
            help="give both heads the same number of outputs",
            claim=claims.BroadcastShape("the shapes differ", nodes=[site.mu, site.scale]),
        )
