"""Pyro's guide and model do not make a bound.

## What it does
Looks at the sites that a step of `pyro.infer.SVI` samples in the guide and in the model: at their shapes, plates and
weights, and at which of them are observed. Reports model and guide that are exchanged, a draw that lacks `.to_event`,
rows that no plate declares, a plate at another axis than its rows, a prior of another shape than the posterior, a
latent whose two densities are weighed differently, and a draw of which only one of the two has a density: one that the
guide makes and the model observes, or that the model makes from a learned prior and the guide does not know. What is
marked as auxiliary, or summed over, needs no partner.

## Why is this bad
Some of it raises far from its cause. Some of it runs: a `poutine.scale` around the model's site alone makes `log q -
log p` something other than a KL, and a plate at the wrong axis draws each row as often as there are rows.

## Example
    with pyro.plate("data", x.shape[0]), poutine.scale(scale=beta):
        pyro.sample("z", dist.Normal(mu, std).to_event(1))      # in the model; the guide has no scale

## Use instead
    with pyro.plate("data", x.shape[0]), poutine.scale(scale=beta):
        pyro.sample("z", dist.Normal(mu, std).to_event(1))      # in both

## When to ignore
Where a site is weighed differently on purpose, as in some importance-weighted objectives.
"""

from vaelint.rule import Findings, Model, setup_rule


@setup_rule("VAE009")
def check(model: Model) -> Findings:
    """Found where `vaelint run` watches SVI: the engine reports it."""
    yield from ()
