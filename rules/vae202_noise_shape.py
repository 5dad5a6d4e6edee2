"""The noise lacks an axis of the latent.

## What it does
Compares the shape of eps with that of the posterior it is scaled by, axis by axis: every latent axis must have its
own noise. And where weights are formed over several draws, as importance weights are, draws them: they must differ.

## Why is this bad
z = mu + scale * eps is a draw from a diagonal Gaussian only if each component has its own eps (Kingma & Welling 2014,
section 2.4). With one number per sample, or per channel, all components move together: the posterior that is sampled
is a line, while the KL charges for a full Gaussian. K copies of one draw have K equal weights: the bound of K samples (Burda et al.
2016) is that of one.

## Example
    eps = torch.randn(mu.size(0), 1)
    z = mu + eps * std

## Use instead
    eps = torch.randn_like(std)
    z = mu + eps * std

## When to ignore
When a posterior of rank one is intended, and the KL is that of the rank-one posterior.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from vaelint.anatomy.posterior.sites import Site


@rule(
    "VAE202",
    "noise-shape",
    Severity.ERROR,
    message="the noise lacks an axis of the latent",
    needs=("gaussian",),
    basis="shapes",
).on("sampling.drawn_noise.constant_axes", "sampling.copied_samples.copied_samples")
def check(model: Model, constant_axes: Callable[[Site], list[str]], copied_samples: Callable[[Site], str | None]) -> Findings:
    """Sites whose noise has the batch but not every axis of the mean, or not that of the samples that are weighed."""
    for site in model.gaussian_sites:
        noise, like = model.noise_of(site), model.posterior_of(site)
        missing = constant_axes(site)
        if noise is None or like is None or not missing or "B" in missing:
            continue
        std = site.scale or like
        yield Found(
            model.where(noise),
            label=f"eps: {model.shape_text(noise)}, lacks {', '.join(missing)}",
            labels=model.labels((std, ""), (site.z, f"eps is stretched over {', '.join(missing)} here")),
            shapes=(
                model.row(std),
                model.row(noise, f"lacks {', '.join(missing)}", "eps", wanted=std),
                model.row(site.z, "a legal broadcast, so PyTorch says nothing"),
            ),
            why="every component of z needs its own noise; here all share one number, and z varies only along a line",
            help="draw eps in the shape of the standard deviation: torch.randn_like(std)",
            repair=repairs.DrawLike(noise=noise, scale=site.scale, like=like, sure=True),
            claim=claims.NoiseAxes(f"(z - mu) / scale is constant along {', '.join(missing)}", site=site, axes=missing),
        )
    for site in model.gaussian_sites:
        noise, axis = model.noise_of(site), copied_samples(site)
        if noise is None or axis is None:
            continue
        yield Found(
            model.where(noise),
            label=f"eps: {model.shape_text(noise)}, the same for all of {axis}",
            labels=model.labels((site.z, f"{axis} samples of z, all alike")),
            shapes=(model.row(noise, f"one draw for {axis}", "eps"), model.row(site.z, "copies")),
            why=f"the {axis} samples are weighed against each other and are copies: the bound is that of one sample",
            help=f"draw eps with the axis of the samples: torch.randn({axis}, *mu.shape)",
            claim=claims.NoiseAxes(f"(z - mu) / scale is constant along {axis}", site=site, axes=[axis]),
        )
