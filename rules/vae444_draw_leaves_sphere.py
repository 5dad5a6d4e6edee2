"""A draw on a sphere leaves it where it is mirrored.

## What it does
Where noise makes a vector of length 1, takes the map that follows it for each unit vector in turn, on the real run. A reflection (the
identity less a symmetric matrix of rank one, which turns a direction round) that changes lengths is reported at its axis.

## Why is this bad
A von Mises-Fisher draw is made around a fixed direction and mirrored to the mean. With an axis that is not of length 1 the map changes
lengths: draws leave the sphere and are not centred on the mean direction, while the KL charges for a distribution on the sphere.

## Formula
v - 2 <v, u> u, with |u| = 1.

Source: Davidson et al. 2018, Hyperspherical variational auto-encoders, algorithm 1.

## Example
    u = e1 - mu
    z = v - 2 * (v * u).sum(-1, keepdim=True) * u

## Use instead
    u = F.normalize(e1 - mu, dim=-1)

## When to ignore
When the code needs not be on a sphere.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE444", "draw-leaves-sphere", Severity.WARNING, message="a draw on a sphere leaves it", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on reflections reports these, on the real run."""
    yield from ()
