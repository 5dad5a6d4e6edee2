"""A parameter of the posterior cancels out of its draw.

## What it does
For draws that are not differentiable by themselves (a Gamma by acceptance and rejection) and that are made a function
of the posterior's parameters afterwards: follows the gradient from the decoder's input to each of these, at random values.
Reports a parameter that the value is computed from, over ways that have a gradient each, and whose whole gradient is 0.

## Why is this bad
Reparameterised rejection sampling holds the accepted noise fixed: z = h(eps, a) with eps a constant (Naesseth et al.
2017, section 3). With eps = h^-1(z, a) left in the graph, h(h^-1(z, a), a) is z whatever a is: the reconstruction
does not train the parameter.

## Example
    z = Gamma(a.detach(), 1).sample()
    eps = h_inverse(a, z)
    z = h(a, eps)

## Use instead
    eps = h_inverse(a.detach(), z)
    z = h(a, eps)              # or torch.distributions.Gamma(a, 1).rsample()

## When to ignore
When the gradient of the draw is added to the loss by a term of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.sampling.cancelled import Cancelled


@rule(
    "VAE218",
    "parameter-cancels",
    Severity.ERROR,
    message="a parameter of the posterior cancels out of its draw",
    basis="replay",
).on("sampling.cancelled.cancelled_draws")
def check(model: Model, cancelled_draws: list[Cancelled]) -> Findings:
    """Heads that the draw does not depend on although it is computed from them."""
    for found in cancelled_draws:
        yield Found(
            found.place or model.where(found.through),
            label=f"{model.written(found.head)} enters here, and cancels in the decoder's input",
            labels=model.labels((found.draw, "drawn here"), (found.entry, "this is decoded: it does not move with the parameter")),
            why="the reconstruction has no gradient in this parameter of the posterior",
            help="compute the noise under torch.no_grad(), or detach it, before z is made of it; or draw with rsample()",
            claim=claims.NoPart(
                "the gradient of the decoder's input is 0", entry=found.entry, head=found.head, through=found.through, draw=found.draw
            ),
        )
