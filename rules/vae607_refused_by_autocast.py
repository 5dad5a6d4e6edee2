"""Autocast refuses this loss on a GPU.

## What it does
Reports `binary_cross_entropy` of probabilities inside of `torch.autocast("cuda")`.

## Why is this bad
On the CPU the region does nothing. On a GPU the call raises: binary_cross_entropy is unsafe to autocast, as the
logarithm of a probability in half precision is.

## Example
    with torch.autocast("cuda"):
        recon = torch.sigmoid(model(x))
        rec = F.binary_cross_entropy(recon, x)

## Use instead
    with torch.autocast("cuda"):
        rec = F.binary_cross_entropy_with_logits(model(x), x)

## When to ignore
Never on CUDA: it raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from torch import fx


@rule(
    "VAE607",
    "refused-by-autocast",
    Severity.ERROR,
    message="autocast refuses this loss on a GPU",
    basis="shapes",
).on("numerics.dtypes.refused_by_autocast")
def check(model: Model, refused_by_autocast: list[fx.Node]) -> Findings:
    """Each such call."""
    for node in refused_by_autocast:
        yield Found(
            model.where(node),
            label="raises inside of autocast",
            when="the model is on a CUDA device",
            why="torch calls it unsafe to autocast: the logarithm of a probability that is rounded to half precision",
            help="binary_cross_entropy_with_logits on the logits, or leave the region: torch.autocast('cuda', enabled=False)",
            claim=claims.AutocastRefuses("on a CUDA device it raises"),
        )
