"""The likelihood does not add up to one over the data.

## What it does
Runs the reconstruction term in double precision over all possible values of one data element, for many outputs of the
decoder. For a likelihood that learns its own spread the sum of exp(-term) must be one and the same number. A scale that
is made of the error must be the one at which the term is lowest, and the logarithm of a learned scale must be counted as
often as the errors that are divided by it.

## Why is this bad
The scale that minimises the loss is then not the scale of the data: it grows or shrinks without end, or settles at a
wrong value, and values of the loss cannot be compared with those of another model.

## Formula
sum over x of p(x | z) = 1. A discretised logistic: p(x) = sigmoid((x + h - m) / s) - sigmoid((x - h - m) / s), with h
half of the step between two values: 1/510 for images in [0, 1], 1/255 for images in [-1, 1].

Source: Salimans et al. 2017, PixelCNN++, eq. 2; Kingma & Welling 2014, appendix C.2, for the Gaussian; Rybkin et al. 2021,
Simple and effective VAE training with calibrated decoders, section 4, for scales made of the error.

## Example
    half = 1 / 255                      # images in [0, 1]: each bin reaches into both neighbours
    p = torch.sigmoid((x - m + half) / s) - torch.sigmoid((x - m - half) / s)

## Use instead
    half = 0.5 / 255

## When to ignore
When the term is meant as a distance, not as a likelihood.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vaelint.faults.kl.scale_verdicts import ScaleFault


@rule(
    "VAE331",
    "likelihood-not-normalised",
    Severity.ERROR,
    message="the likelihood does not add up to one over the data",
    needs=("reconstruction",),
    basis="replay",
).on("kl.imbalance.off_balance")
def check(model: Model, off_balance: Callable[[ScaleFault], Iterator[Found]]) -> Findings:
    """Logarithms of scales that are counted once for many errors; the laws on likelihoods report the others."""
    return off_balance("log")
