"""Free bits cap the KL instead of flooring it.

## What it does
Measures where the KL has a gradient: free bits remove it where the KL is small, never where it is large.

## Why is this bad
Free bits (Kingma et al. 2016, appendix C.8) are max(lambda, KL): a latent may keep lambda nats for free. With min,
the gradient vanishes exactly for the latents that are too far from the prior.

## Formula
KL with free bits = sum_j max(lambda, KL_j): no gradient below the floor, the KL's own above it.

Source: Kingma et al. 2016, Improved Variational Inference with Inverse Autoregressive Flow, appendix C.8.

## Example
    kl = kl_per_dim.clamp(max=self.free_bits).sum()
    kl = torch.minimum(kl_elements, floor).sum()

## Use instead
    kl = kl_per_dim.clamp(min=self.free_bits).sum()

## When to ignore
Never.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import fx

    from vaelint.anatomy.loss.facts import KlFact


@rule(
    "VAE417",
    "free-bits-inverted",
    Severity.ERROR,
    message="the KL has no gradient where it is large",
    needs=("kl",),
    basis="replay",
).on("kl.missing.ceiling_of")
def check(model: Model, ceiling_of: Callable[[KlFact], fx.Node | None]) -> Findings:
    """KL terms that are cut off from above."""
    for fact in model.kls:
        if fact.probe.verdict != "inverted_floor":
            continue
        node = ceiling_of(fact)
        if node is None:
            continue
        yield Found(
            model.where(node),
            label="cuts the KL off from above",
            labels=model.labels((fact.site.z, "")) if fact.site else (),
            why="a latent far from the prior is not pulled back; one near it is",
            help="use max (clamp(min=...)): free bits are a floor",
            repair=repairs.FloorNotCeiling(node=node),
            claim=claims.KlGradient("the KL has no gradient where it is large", fact=fact),
        )
