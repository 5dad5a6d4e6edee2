"""The sampler multiplies eps by something other than the standard deviation.

## What it does
Evaluates the sampler's scale as a function of the encoder's head, and the KL as a function of the same head. If the
KL is the exact Gaussian KL for another reading of the head (log-variance) than the sampler's, the two disagree.

## Why is this bad
With s = exp(logvar) instead of exp(logvar / 2), samples have the variance squared: the reconstruction is trained
under one posterior and the KL charges for another, so the loss is not a bound (Kingma & Welling 2014,
appendix B and C.2).

## Example
    std = torch.exp(logvar)
    z = mu + eps * std
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())

## Use instead
    std = torch.exp(0.5 * logvar)
    z = mu + eps * std
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())

## When to ignore
Never: if the head is a log-standard deviation, fix the KL instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from vaelint.faults.sampling.clash import Clash


@rule(
    "VAE205",
    "variance-as-std",
    Severity.ERROR,
    message="the sampler and the KL read the encoder's head differently",
    needs=("gaussian", "kl"),
    basis="replay",
).on("sampling.clash.clashes")
def check(model: Model, clashes: list[Clash]) -> Findings:
    """Sampler and KL disagree, and the sampler is the odd one."""
    for clash in clashes:
        if clash.culprit != "sampler" or clash.negative:
            continue
        yield Found(
            model.where(clash.scale),
            label=f"reads the head as {clash.sampler}",
            labels=model.labels((clash.kl, f"the KL reads it as {clash.kl_reads}"), (clash.head, "the head")),
            shapes=(model.row(clash.scale, f"scale = {clash.formula_now}"), model.row(clash.kl, f"is exact for scale = {clash.formula}")),
            why="samples are drawn from one posterior and the KL is that of another: the loss is not a bound",
            help=f"use {clash.formula} as the standard deviation",
            notes=(clash.tie,) if clash.tie else (),
            repair=repairs.ScaleAs(clash=clash),
            claim=claims.ScaleCurve(
                f"the scale is {clash.formula_now}, the KL needs {clash.formula}", site=clash.site, reads=clash.kl_reads
            ),
        )
