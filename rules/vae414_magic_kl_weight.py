"""The KL has a bare number far from 1 as its weight.

## What it does
Looks at the factors between the KL and the loss: a literal outside [0.2, 5] that is not part of the formula, with no
named weight beside it.

## Why is this bad
A weight like 0.01 often compensates for a wrong reduction elsewhere, for one data set and one latent size. As a named
beta it can be read, logged and tuned (Higgins et al. 2017, beta-VAE, eq. 4).

## Formula
loss = -E_q[log p(x|z)] + beta KL, with beta a named choice.

Source: Higgins et al. 2017, beta-VAE, eq. 4.

## Example
    loss = rec + 0.01 * kl
    loss = rec + 5e-4 * kl.mean()

## Use instead
    loss = rec + self.beta * kl

## When to ignore
When the number is right and documented: suppress it on its line with the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vaelint.faults.kl.scale_verdicts import ScaleFault


@rule(
    "VAE414",
    "magic-kl-weight",
    Severity.WARNING,
    message="the KL has a bare number as its weight",
    needs=("beta",),
    basis="replay",
).on("kl.imbalance.off_balance")
def check(model: Model, off_balance: Callable[[ScaleFault], Iterator[Found]]) -> Findings:
    """Effective betas set by a literal far from 1."""
    return off_balance("literal")
