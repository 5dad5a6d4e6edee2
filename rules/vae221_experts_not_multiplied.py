"""The joint posterior is not the product of its experts.

## What it does
Where the mean of a posterior is a sum of several means, weighed by their spreads, runs it in double precision: each expert's
variance, as the joint posterior takes it, must be a function of that expert's own output alone, and not the square root of a variance.
Where the experts are averaged beside a mask, the weights of those that are there must add up to one.

## Why is this bad
An expert that is sure has too little weight, or the joint posterior is wider or narrower than its experts say. A missing modality
then moves what the others say.

Formula: 1 / v = sum_i 1 / v_i and m = v sum_i m_i / v_i, with v_i = exp(logvar_i).

Source: Wu & Goodman 2018, Multimodal generative models for scalable weakly-supervised learning, section 2.2; Sonderby et al. 2016, Ladder
variational autoencoders, eq. 15 to 17.

## Example
    precision = 1 / torch.exp(0.5 * logvar)      # 1 / standard deviation

## Use instead
    precision = torch.exp(-logvar)

## When to ignore
When another fusion than a product of Gaussians is intended.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule(
    "VAE221",
    "experts-not-multiplied",
    Severity.WARNING,
    message="the joint posterior is not the product of its experts",
    needs=("gaussian",),
    basis="replay",
)
def check(model: Model) -> Findings:
    """The law on experts reports these."""
    yield from ()
