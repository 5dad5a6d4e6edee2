"""The expected count falls where the mean that it is made of grows.

## What it does
Adds the likelihood of counts up over all counts, for its mean. It must double with a total of the counts (a library
size) that enters the likelihood, and be the mean that the decoder puts out where there is one.

## Why is this bad
Samples with many counts are predicted to have few. The decoder has to undo this before it can fit anything, and what
is read off as its mean is something else.

## Formula
A negative binomial of mean m and dispersion r has probability of success p = m / (m + r) in torch's convention,
logits log(m) - log(r).

Source: Lopez et al. 2018, Deep generative modeling for single-cell transcriptomics; the PyTorch documentation of
torch.distributions.NegativeBinomial.

## Example
    NegativeBinomial(total_count=r, probs=r / (r + m))

## Use instead
    NegativeBinomial(total_count=r, probs=m / (r + m))

## When to ignore
When the total is meant to count against the mean.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule(
    "VAE333",
    "count-mean-inverted",
    Severity.ERROR,
    message="the expected count is not what the decoder calls its mean",
    needs=("reconstruction",),
    basis="replay",
)
def check(model: Model) -> Findings:
    """The law on counts reports these."""
    yield from ()
