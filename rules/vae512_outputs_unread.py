"""Some outputs of the encoder's or the decoder's last layer are never read.

## What it does
Moves, on the real run, those columns of the last layers of encoder and decoder that have no gradient. Where no addend
of the loss follows, however far they are moved, they are reported at the slice that is read in their place. Parts
that the code takes out and leaves unused are a remark. A loop over columns of which only the last turn's error is
kept (`total = ...` for `total = total + ...`) is reported at that line.

## Why is this bad
A last layer has as many outputs as are meant to be read. If some are not, an offset did not move on, and one value is
read twice: a log-variance that is the mean, say. Shapes fit, so PyTorch says nothing.

## Example
    h = self.decoder(z)                    # (B, 2*D)
    mean, logvar = h[:, :d], h[:, :d]

## Use instead
    mean, logvar = h[:, :d], h[:, d:]

## When to ignore
When the outputs are kept for a later stage or for a checkpoint of another model.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE512", "outputs-unread", Severity.WARNING, message="some outputs of a last layer are never read", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on outputs reports these, on the real run."""
    yield from ()
