"""The reparameterisation noise is not standard normal.

## What it does
Draws from the slice of the graph that makes eps and measures mean, standard deviation and kurtosis. Noise that is
shaped on purpose by a function (the two logarithms of Gumbel noise, the inverse CDF of a Laplace) is left alone.

## Why is this bad
z = mu + scale * eps is a sample of N(mu, scale^2) only for eps ~ N(0, 1), and the KL is computed for that Gaussian
(Kingma & Welling 2014, appendix B). `torch.rand_like` is uniform on [0, 1): its mean of 1/2 shifts every latent by
half a standard deviation. Noise of standard deviation 0.01 makes a nearly deterministic encoder, whose KL is charged
as if it were not.

## Example
    eps = torch.rand_like(std)
    z = mu + eps * std

## Use instead
    eps = torch.randn_like(std)
    z = mu + eps * std

## When to ignore
When the posterior is another location-scale family and the KL is that family's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from vaelint.anatomy.posterior.sites import Site
    from vaelint.faults.sampling.drawn_noise import NoiseMoments


@rule(
    "VAE203",
    "non-gaussian-noise",
    Severity.ERROR,
    message="the reparameterisation noise is not standard normal",
    needs=("gaussian",),
).on("sampling.drawn_noise.noise_moments", "sampling.drawn_noise.spread_is_the_priors", "sampling.drawn_noise.is_no_latent")
def check(
    model: Model,
    noise_moments: Callable[[Site], NoiseMoments | None],
    spread_is_the_priors: Callable[[Site], bool],
    is_no_latent: Callable[[Site], bool],
) -> Findings:
    """Sites whose noise, by measurement, is another distribution than N(0, 1)."""
    for site in model.gaussian_sites:
        noise = model.noise_of(site)
        moments = noise_moments(site)
        if noise is None or moments is None or moments.is_standard_normal or moments.std == 0 or is_no_latent(site):
            continue
        closed = any(
            k.site is site and k.probe.verdict == "exact" and not k.probe.monte_carlo and k.probe.family == "Gaussian" for k in model.kls
        )
        if moments.shaped and not (moments.is_aside and closed):
            continue
        kind = "uniform" if abs(moments.kurtosis + 1.2) < 0.15 else "normal" if abs(moments.kurtosis) < 0.4 else "not normal"
        if kind == "normal" and not moments.is_aside and spread_is_the_priors(site):
            continue
        facts = f"mean {moments.mean:.2f}, standard deviation {moments.std:.2g}"
        root = site.roots[0]
        yield Found(
            model.where(root),
            label=f"{kind}: {facts}",
            labels=model.labels((site.z, "used as if it were N(0, 1)")),
            why="the KL is that of N(mu, scale^2); the noise actually drawn has another mean or spread, so the loss is not the ELBO",
            help="draw standard normal noise: torch.randn_like(std)",
            facts={"mean": moments.mean, "std": moments.std, "excess_kurtosis": moments.kurtosis},
            repair=repairs.NormalNoise(root=root, like=site.scale or model.posterior_of(site), sure=kind == "uniform"),
            claim=claims.NoiseMoments(facts, site=site, mean=moments.mean, std=moments.std),
        )
