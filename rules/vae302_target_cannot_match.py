"""Reconstruction and target have shapes that cannot be compared.

## What it does
When a loss or a difference raises because the reconstruction does not have the shape of the input, shows both shapes,
where the reconstruction was made, and what differs. Shapes that differ and broadcast are VAE301. The finding comes
from the run that raised.

## Why is this bad
The step does not run: the decoder does not undo what the encoder did to the size.

## Formula
-log p(x|r) = sum_d l(r_d, x_d): as many elements in r as in x.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, appendix C.

## Example
    nn.ConvTranspose2d(16, 1, 3, 2, 1)             # 14 -> 27, the input has 28
    loss = F.binary_cross_entropy(recon.view(-1, 784), x)                    # x is still (B, 1, 28, 28)

## Use instead
    nn.ConvTranspose2d(16, 1, 3, 2, 1, output_padding=1)

## When to ignore
Never.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule(
    "VAE302", "target-cannot-match", Severity.ERROR, message="reconstruction and target have shapes that cannot be compared", basis="shapes"
)
def check(model: Model) -> Findings:
    """Found before there is a model to read: the engine reports it."""
    yield from ()
