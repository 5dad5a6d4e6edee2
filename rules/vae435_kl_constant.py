"""The KL term is the same for every posterior.

## What it does
Runs the step with other weights: a KL that is 0 in all of these runs, although the posterior's parameters change, is
not a KL.

## Why is this bad
A term without influence has no gradient: the posterior is free to shrink its scale to nothing, and the decoder never
sees samples like the prior's in training.

## Formula
|KL(q(z|x) || p(z)) - C| pulls the KL to a capacity C from both sides; min(KL, C) with C = 0 is 0 for every q.

Source: Burgess et al. 2018, Understanding disentangling in beta-VAE, eq. 8.

## Example
    kl = torch.clamp(kl, 0, self.capacity)     # capacity is 0: nothing passes

## Use instead
    kl = (kl - self.capacity).abs()            # pulls from both sides

## When to ignore
When the term is switched off on purpose for this stage of training.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE435", "kl-constant", Severity.WARNING, message="the KL term is the same for every posterior", needs=("kl",))
def check(model: Model) -> Findings:
    """The law on weights reports these, on the real run."""
    yield from ()
