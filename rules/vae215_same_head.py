"""Mean and scale of the posterior come from one head.

## What it does
Compares how the mean and the scale of each draw are computed, back to the layers: reports a posterior whose two
halves are the same value, because one layer is called for both, or one slice is taken twice.

## Why is this bad
The log-variance is then the mean: the encoder cannot express its uncertainty. It is usually a copy-and-paste slip;
the intended layer never gets a gradient.

## Example
    mu = self.fc_mu(h)
    logvar = self.fc_mu(h)

## Use instead
    mu = self.fc_mu(h)
    logvar = self.fc_logvar(h)

## When to ignore
When the scale is meant to be a function of the mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from vaelint.faults.sampling.heads import Alias


@rule(
    "VAE215",
    "same-head",
    Severity.ERROR,
    message="mean and scale of the posterior come from one head",
    needs=("site",),
).on("sampling.heads.aliased_heads")
def check(model: Model, aliased_heads: list[Alias]) -> Findings:
    """Each site whose two heads compute the same."""
    for alias in aliased_heads:
        one = alias.mean is alias.scale
        yield Found(
            alias.bound or alias.misread or model.own_place(alias.scale),
            label="one layer under two names"
            if alias.bound
            else "is read as the mean and as the scale"
            if one
            else f"the same as {model.written(alias.mean)}",
            labels=model.labels(
                (None if one else alias.mean, ""),
                (alias.scale if alias.bound else None, "the same values"),
                (alias.site.z, "both meet here"),
            ),
            why="the posterior's scale is then tied to its mean, and cannot express the encoder's uncertainty",
            help="give the log-variance a layer (or a slice) of its own",
            repair=repairs.IdleHead(scale=alias.scale),
            claim=claims.HeadsEqual("the raw mean and the raw scale are equal for every input", nodes=(alias.mean, alias.scale)),
        )
