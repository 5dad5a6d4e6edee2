"""Mean and variance of the likelihood come from one head.

## What it does
For a likelihood with a learned variance, compares how the decoder's mean and variance are computed, back to the
layers: reports two values that are the same, because one layer is called for both.

## Why is this bad
The variance is then a function of the mean: the decoder cannot express where it is uncertain. It is usually a
copy-and-paste slip; the intended layer never gets a gradient.

## Formula
-log N(x; r(z), s(z)^2) = (x - r)^2 / (2 s^2) + log s + const: r and s are two functions of z.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, eq. 12 (appendix C.2).

## Example
    mean = self.mean_out(h)
    logvar = self.mean_out(h)

## Use instead
    mean = self.mean_out(h)
    logvar = self.logvar_out(h)

## When to ignore
When the variance is meant to follow the mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from torch import fx


@rule(
    "VAE320",
    "likelihood-same-head",
    Severity.ERROR,
    message="mean and variance of the likelihood come from one head",
    needs=("reconstruction",),
).on("sampling.heads.aliased_likelihoods")
def check(model: Model, aliased_likelihoods: list[tuple[fx.Node, fx.Node]]) -> Findings:
    """Likelihoods whose two halves compute the same."""
    for mean, variance in aliased_likelihoods:
        yield Found(
            model.where(variance),
            label=f"the same as {model.written(mean)}",
            labels=model.labels((mean, "the mean")),
            why="the variance is tied to the mean, and cannot express where the reconstruction is uncertain",
            help="give the log-variance layers of its own",
            claim=claims.HeadsEqual("the raw mean and the raw variance are equal for every input", nodes=(mean, variance)),
        )
