"""One term of the loss sums over several draws, another averages over them.

## What it does
Where one posterior is drawn several times, measures on the real run how much all draws of a sample weigh in each term
of the loss: K times as much in one term as in another.

## Why is this bad
The term that sums over K draws weighs K times as much as written, and the balance of the ELBO moves with the number
of draws.

## Formula
ELBO = 1/K sum_k [log p(x|z_k) - log q(z_k|x) + log p(z_k)], with z_k drawn from q(z|x): one mean over all of it.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, eq. 6.

## Example
    loss = (rec.mean(0) + kl.sum(0)).mean()     # rec and kl: K x B

## Use instead
    loss = (rec + kl).mean(0).mean()

## When to ignore
When the weight K is wanted: write it as a factor of the mean.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule(
    "VAE441", "draws-summed", Severity.ERROR, message="one term sums over several draws, another averages over them", needs=("site", "loss")
)
def check(model: Model) -> Findings:
    """The law on draws reports these, on the real run."""
    yield from ()
