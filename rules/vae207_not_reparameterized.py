"""The draw lets no gradient through to the encoder.

## What it does
Finds latents drawn by `torch.normal(mu, std)` or a distribution's `.sample()` that the reconstruction depends on, and
discrete draws (`torch.bernoulli`, `torch.multinomial`) with no straight-through path or score function around them.

## Why is this bad
The gradient of the reconstruction with respect to mu and std is zero: only the KL trains the encoder, and the
posterior collapses to the prior at once. The reparameterisation z = mu + std * eps (Kingma & Welling 2014, section
2.4) takes the draw off the gradient's path. `backward` does not raise.

## Example
    z = torch.normal(mu, std)
    z = Normal(mu, std).sample()

## Use instead
    z = mu + std * torch.randn_like(std)
    z = Normal(mu, std).rsample()

## When to ignore
When the encoder is trained by a score-function estimator (REINFORCE).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import fx

    from vaelint.anatomy.posterior.sites import Site


@rule(
    "VAE207",
    "not-reparameterized",
    Severity.ERROR,
    message="the draw lets no gradient through to the encoder",
    needs=("site", "loss"),
).on(
    "sampling.estimators.feeds_reconstruction",
    "sampling.estimators.has_score_function",
    "sampling.estimators.learns_otherwise",
    "sampling.estimators.blocked_draws",
)
def check(
    model: Model,
    feeds_reconstruction: Callable[[fx.Node], bool],
    has_score_function: Callable[[Site], bool],
    learns_otherwise: Callable[[Site], bool],
    blocked_draws: list[Site],
) -> Findings:
    """Draws without gradient on the way to the reconstruction."""
    for site in model.gaussian_sites:
        if site.kind != "drawn" or not feeds_reconstruction(site.z):
            continue
        if has_score_function(site) or learns_otherwise(site):
            continue
        yield Found(
            model.where(site.z),
            label="a draw, not a function of mu and std",
            labels=model.labels((site.mu, ""), (site.scale, "")),
            shapes=(model.row(site.z, "no gradient to mu or std"),),
            why="the gradient stops at the draw: the reconstruction cannot train the encoder, only the KL does",
            help="sample by z = mu + std * torch.randn_like(std), or .rsample()",
            repair=repairs.Reparameterise(site=site),
            claim=claims.NoGradFromRecon(
                "the reconstruction gives mu no gradient", nodes=[n for n in (site.mu, site.scale) if n is not None]
            ),
        )
    for site in blocked_draws:
        yield Found(
            model.where(site.z),
            label="a discrete draw, which has no gradient" if site.kind == "categorical" else "a draw without a gradient",
            labels=model.labels((site.mu, "the distribution it is drawn from")),
            why="the gradient stops at the draw: the reconstruction cannot train the encoder, only the KL does",
            help="F.gumbel_softmax, or let the gradient skip the draw: p + (draw - p).detach(), or add a score-function term"
            if site.kind == "categorical"
            else "sample with .rsample()",
            claim=claims.NoGradFromRecon("the reconstruction gives the distribution no gradient", nodes=[site.mu]),
        )
