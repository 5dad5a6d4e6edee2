"""The columns of a matrix are shuffled one by one, all in one order.

## What it does
Looks, on a real run, for one permutation that several picks from a matrix share and that leaves its rows whole.

## Why is this bad
A FactorVAE's critic learns to tell codes from codes whose latents were exchanged among the samples. With one order for all
latents nothing is exchanged: both classes are the same, the total correlation is estimated as 0 whatever it is, and its weight does
nothing (Kim & Mnih 2018, Disentangling by Factorising, algorithm 1: a permutation for each latent).

## Example
    order = torch.randperm(z.size(0))
    z_perm = torch.stack([z[order, j] for j in range(z.size(1))], dim=1)

## Use instead
    z_perm = torch.stack([z[torch.randperm(z.size(0)), j] for j in range(z.size(1))], dim=1)

## When to ignore
When whole rows are to be shuffled: z[order] says so.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE912", "shuffled-together", Severity.ERROR, message="one permutation shuffles all columns alike", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on shuffles reports these, on the real run."""
    yield from ()
