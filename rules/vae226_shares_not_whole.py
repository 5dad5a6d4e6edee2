"""Shares of a stick do not add up to one.

## What it does
Where a layer reads K numbers that are made of K - 1 random fractions, puts the fractions at 0 and 1: if then each number is 0
or 1 and at most one of them is 1, a stick is broken piece by piece. Reports pieces that do not add up to one in between.

## Why is this bad
The code is to be on the simplex: the shares are the weights of a mixture, or of topics. Where a piece is multiplied by its
own remainder as well, a part of the stick is lost, and prior and posterior are those of other weights.

pi_k = v_k prod_(j<k) (1 - v_j), and the last piece is what all fractions leave.

Source: Sethuraman 1994, A constructive definition of Dirichlet priors; Nalisnick & Smyth 2017, Stick-breaking variational
autoencoders, eq. 1.

## Example
    left = torch.cumprod(torch.cat([1 - v, one], 1), 1)
    shares = torch.cat([v, one], 1) * left

## Use instead
    left = torch.cumprod(torch.cat([one, 1 - v], 1), 1)
    shares = torch.cat([v, one], 1) * left

## When to ignore
When the lost part stands for something of its own.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE226", "shares-not-whole", Severity.WARNING, message="the shares of a stick do not add up to one", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on shares reports these, in double precision."""
    yield from ()
