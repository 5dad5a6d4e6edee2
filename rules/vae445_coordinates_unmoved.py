"""Layers of a flow all hold the same coordinates.

## What it does
Moves the weights of a flow and compares what comes out of its layers with what was drawn. Reports coordinates that come out
of two layers of one kind or more as they went in, where the others are only shifted and scaled.

## Why is this bad
A coupling layer holds one part of the coordinates and bends the other by it. Where each layer holds the same part, that part
stays the Gaussian it was drawn from, and all layers together do what one of them does. It trains, its volumes are right, and
more layers change nothing about it.

## Formula
z_a' = z_a, z_b' = z_b * exp(s(z_a)) + t(z_a); in the next layer a and b change places.

Source: Dinh et al. 2017, Density estimation using Real NVP, section 3.5.

## Example
    self.flows = nn.ModuleList(Coupling(n, parity=0) for _ in range(6))

## Use instead
    self.flows = nn.ModuleList(Coupling(n, parity=i % 2) for i in range(6))

## When to ignore
Never: one layer does the same. Layers that bend the rest by more than a line (splines) are not reported.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE445", "coordinates-unmoved", Severity.WARNING, message="layers of a flow all hold the same coordinates", needs=("site", "loss"))
def check(model: Model) -> Findings:
    """The law on couplings reports these."""
    yield from ()
