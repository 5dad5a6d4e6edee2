"""One noise vector serves the whole batch.

## What it does
Follows each draw into `z = mu + scale * eps` and compares the shapes: eps must have the batch dimension of mu.

## Why is this bad
The reparameterisation trick (Kingma & Welling 2014, section 2.4) needs a separate eps for each sample. With one vector
for all rows, the gradient stays unbiased, but its noise no longer averages out over the batch, and all samples of a
batch move together. PyTorch says nothing: `(L)` broadcasts over `(B, L)`.

## Example
    eps = torch.randn(self.latent_dim)
    z = mu + eps * std

## Use instead
    eps = torch.randn_like(std)
    z = mu + eps * std

## When to ignore
When common random numbers across the batch are meant, for variance reduction between samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from vaelint.anatomy.posterior.sites import Site


@rule(
    "VAE201",
    "shared-noise",
    Severity.ERROR,
    message="one noise vector serves the whole batch",
    needs=("site",),
    basis="shapes",
).on("sampling.drawn_noise.constant_axes")
def check(model: Model, constant_axes: Callable[[Site], list[str]]) -> Findings:
    """A site whose noise lacks the batch dimension that its mean has."""
    for site in model.gaussian_sites:
        noise, like = model.noise_of(site), model.posterior_of(site)
        if noise is None or like is None or "B" not in constant_axes(site):
            continue
        std = site.scale or like
        yield Found(
            model.where(noise),
            label=f"eps: {model.shape_text(noise)}, the same for all of B",
            labels=model.labels((std, ""), (site.z, "one noise for all of B here")),
            shapes=(
                model.row(std),
                model.row(noise, "lacks B, or is stretched over it", "eps", wanted=std),
                model.row(site.z, "legal, so PyTorch says nothing"),
            ),
            when="B > 1",
            why="z = mu + eps * std needs a separate eps for each sample; a shared one does not average out over the batch",
            help="draw eps in the shape of the standard deviation: torch.randn_like(std)",
            repair=repairs.DrawLike(noise=noise, scale=site.scale, like=like, sure=True),
            claim=claims.NoiseRows("all rows of (z - mu) / scale are equal", site=site, equal=True),
        )
