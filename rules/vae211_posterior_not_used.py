"""The posterior, or its mean, never reaches the decoder.

## What it does
Looks at what z is made of: noise alone, or noise with the scale and without the mean, while a KL is charged for the
posterior. Of several posteriors, looks for one that is charged and whose draw nothing reads. Of a posterior over
classes whose bounds are taken one by one, looks for a term beside its KL that moves with it. On the real run, gives the
decoder other draws: the reconstruction must move for some sample.

## Why is this bad
From noise that does not depend on the input, the decoder can only learn the mean of the data. With the scale alone,
nearly all that the encoder knows of the input is lost: the mean is trained by the KL only, to 0.

## Example
    z = torch.randn_like(mu)
    z = eps * std

## Use instead
    z = mu + eps * std

## When to ignore
When this step trains an unconditional decoder on purpose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from torch import fx

    from vaelint.faults.sampling.never_decoded import NeverDecoded


@rule(
    "VAE211",
    "posterior-not-used",
    Severity.ERROR,
    message="the posterior, or its mean, never reaches the decoder",
    needs=("loss",),
).on("sampling.idle.unused_posteriors", "sampling.idle.prior_draws", "sampling.never_decoded.never_decoded")
def check(
    model: Model,
    unused_posteriors: list[tuple[fx.Node, fx.Node | None, str]],
    prior_draws: list[tuple[fx.Node, fx.Node, fx.Node]],
    never_decoded: list[NeverDecoded],
) -> Findings:
    """z without the mean, reconstructions made of noise alone, levels that are drawn from their prior, and draws that nothing reads."""
    for one in never_decoded:
        yield Found(
            model.where(one.instead or one.draw),
            label="another draw is decoded here in its place" if one.instead is not None else "drawn, and read by nothing",
            labels=model.labels((one.draw, "drawn, and read by nothing") if one.instead is not None else (one.mean, "its mean")),
            why="the KL alone trains this posterior, and pulls it to the prior: what it says of the data never reaches a decoder",
            help="decode each draw, or take its posterior and its KL out",
            claim=claims.NoGradFromRecon("the reconstruction gives the posterior that is charged no gradient", nodes=[one.mean]),
        )
    for node, core, own in prior_draws:
        yield Found(
            model.where(node),
            label="drawn from the prior of this level",
            labels=model.labels((core, "the posterior that is charged here is never drawn from")),
            why="what the posterior says of this input does not reach the decoder: its KL alone trains it, and pulls it to the prior",
            help="draw from the posterior in training, and from the prior to generate",
            claim=claims.NoGradFromRecon("the reconstruction gives the posterior that is charged no gradient", nodes=[own]),
        )
    for node, what, label in unused_posteriors:
        yield Found(
            model.where(node),
            label=label,
            labels=model.labels((what, "")),
            why="the decoder's input says nothing about which input was encoded",
            help="z = mu + eps * std",
            claim=claims.NoGradFromRecon("the reconstruction gives the mean no gradient", nodes=[what])
            if model.sites
            else claims.UnmovedByData("with other data the reconstruction is the same", node=what),
        )
