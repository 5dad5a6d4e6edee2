"""An input has no effect on the loss.

## What it does
Runs the step again with other values of each input: another sample's, the ends of the range it was given, a mask
inverted. An input that leaves the loss the same to the last bit is reported where it is declared. A label that is
never read is not reported. Where a model keeps what a step has made of an input, it takes the step again: later batches
must move the loss as the first one did.

## Why is this bad
Unread lengths make padding part of the data; an unread mask hides nothing; an unread condition conditions nothing.
The shapes are right without it, so the model trains.

## Formula
log p(x) >= E_q(z|x)[log p(x|z)] - KL(q(z|x) || p(z)), over the places of x that are there; of a condition c, every
density given c.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, eq. 2; Sohn et al. 2015, eq. 4.

## Example
    def forward(self, tokens, lengths):
        _, h = self.rnn(self.embed(tokens))

## Use instead
    def forward(self, tokens, lengths):
        packed = pack_padded_sequence(self.embed(tokens), lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, h = self.rnn(packed)

## When to ignore
When a family of models shares the signature, and this one does not need the input.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE324", "input-without-effect", Severity.WARNING, message="an input has no effect on the loss", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on inputs reports these, on the real run."""
    yield from ()
