"""The noise is the same at every call.

## What it does
Looks for a posterior that is combined with a constant where noise should be: a stored tensor, a number, a draw that
is made and not used, a generator that is seeded again in each call; and for one noise that several draws of a path
(steps of time, levels) are made with.

## Why is this bad
With constant noise the encoder learns one fixed offset: z is a deterministic function of x, the reconstruction never
sees the posterior's width, and the KL regularises a spread that is never sampled.

## Example
    self.eps = torch.randn(latent_dim)      # in __init__
    ...
    z = mu + self.eps * std

## Use instead
    z = mu + torch.randn_like(std) * std

## When to ignore
When fixed noise is intended: a debugging run, common random numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from vaelint.faults.sampling.idle import Frozen


@rule("VAE204", "frozen-noise", Severity.ERROR, message="the noise is the same at every call").on("sampling.idle.frozen_noise")
def check(model: Model, frozen_noise: list[Frozen]) -> Findings:
    """Constant noise in the place of a draw; a generator seeded in the sampling code."""
    for frozen in frozen_noise:
        yield Found(
            frozen.made or model.where(frozen.node),
            label="a default is made once, when the function is defined" if frozen.made is not None else frozen.label,
            labels=model.labels(
                (frozen.draw, "this draw is not used"),
                (frozen.scale, ""),
                (frozen.node if frozen.made is not None else None, frozen.label),
            ),
            why="z is a fixed function of x: nothing is sampled, and the KL regularises a spread that is never used",
            help="draw new noise at each call: torch.randn_like(std)"
            if frozen.made is None
            else "make None the default, and draw new noise at each call where it is None",
            repair=repairs.DrawAnew(frozen=frozen),
            claim=claims.NoiseRepeats("two calls give the same z", node=frozen.node),
        )
