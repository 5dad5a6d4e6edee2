"""Padding changes the result.

## What it does
Where an input counts how long each sample is: pads the batch further, and moves the posterior of the steps beyond each
length, on the real run. Neither may change the posterior of a sequence or the loss. Where places are averaged within the
length, those beyond it take other values, too.

## Why is this bad
One sequence has another posterior, or another loss, in a batch that happens to be padded further. The last step of a short
sequence is padding, and what an encoder keeps of it is mostly that.

## Formula
log p(x_1..T | z) - KL(q(z | x_1..T) || p(z)), with T the sample's own length.

Source: the PyTorch documentation of torch.nn.utils.rnn.pack_padded_sequence; Krishnan et al. 2017, Structured
Inference Networks for Nonlinear State Space Models, eq. 6, whose sums run over a sequence's own steps.

## Example
    states, _ = self.rnn(self.embed(tokens))
    mu = self.mu(states[:, -1])

## Use instead
    packed = pack_padded_sequence(self.embed(tokens), lengths.cpu(), batch_first=True, enforce_sorted=False)
    _, h = self.rnn(packed)
    mu = self.mu(h[-1])

## When to ignore
When all sequences of a batch have one length.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE322", "padding-not-inert", Severity.WARNING, message="padding changes the result", needs=("site", "loss"))
def check(model: Model) -> Findings:
    """The law on padding reports these, on real runs."""
    yield from ()
