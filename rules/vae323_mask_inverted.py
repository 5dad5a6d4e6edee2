"""A mask removes the data and keeps the padding.

## What it does
On the real run, changes the data within and beyond each sample's length, or where a mask is 1 and where it is 0: the
reconstruction must not depend on the padding alone, and encoder and loss must leave out the same places.

## Why is this bad
The model is trained on padding or on missing values, and the measured values do not count. Nothing raises: both
sides of a mask have the same shape.

## Formula
sum over t < T of log p(x_t | z); for several modalities, q(z | x_A) with log p(x_A | z), A those that are there.

Source: Wu & Goodman 2018, Multimodal Generative Models for Scalable Weakly-Supervised Learning, section 2.2.

## Example
    mask = torch.arange(T)[None] >= lengths[:, None]
    error = (error * mask).sum(1)

## Use instead
    mask = torch.arange(T)[None] < lengths[:, None]
    error = (error * mask).sum(1)

## When to ignore
When the encoder sees one part and the loss is about the other on purpose, as in masked pre-training.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE323", "mask-inverted", Severity.WARNING, message="a mask removes the data and keeps the padding", needs=("site", "loss"))
def check(model: Model) -> Findings:
    """The laws on padding and masks report these, on real runs."""
    yield from ()
