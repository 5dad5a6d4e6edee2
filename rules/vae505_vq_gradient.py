"""A gradient of the vector quantisation is missing.

## What it does
Finds the lookup of the nearest code and follows the gradients: the reconstruction must reach the encoder (through `z
+ (q - z).detach()`), something must move the codes (a codebook term, or a moving average in place), and where the
loss has such terms one of them must hold the encoder to its codes.

## Why is this bad
The lookup itself has no gradient (van den Oord et al. 2017, section 3.2). With the straight-through sum the wrong way
round the encoder learns nothing from the reconstruction; with the codebook term computed on the straight-through
value the codes never move; with both terms detached on one side one of them is missing.

## Example
    q = q + (z - q).detach()

## Use instead
    q = z + (q - z).detach()

## When to ignore
When the codes are fixed on purpose; keep them in a buffer then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from vaelint.faults.codes.codebook import VqFault

TEXT = {
    "encoder": (
        "the encoder gets no gradient from the reconstruction",
        "the reconstruction does not train the encoder",
        "let the gradient skip the lookup: z + (q - z).detach()",
    ),
    "codebook": (
        "the codes get no gradient",
        "the codes keep their initial values",
        "compare the looked up codes themselves with z.detach()",
    ),
    "commitment": (
        "nothing holds the encoder to its codes",
        "the encoder may drift away from the codes without bound",
        "add a commitment term: mse(z, q.detach())",
    ),
}


@rule(
    "VAE505",
    "vq-gradient",
    Severity.ERROR,
    message="a gradient of the quantisation is missing",
    basis="shapes",
).on("codes.codebook.vq_faults")
def check(model: Model, vq_faults: list[VqFault]) -> Findings:
    """Each gradient that is missing."""
    for fault in vq_faults:
        label, why, advice = TEXT[fault.what]
        yield Found(
            fault.place or model.where(fault.node),
            label=label,
            labels=model.labels((fault.codebook.code, "the nearest codes are looked up here")),
            why=why,
            help=advice,
            severity=Severity.WARNING if fault.what == "commitment" else None,
            facts={"missing": fault.what},
            repair=repairs.CodesWithGradient(node=fault.node) if fault.what == "codebook" else None,
            claim=claims.VqGradients(label, what=fault.what, parameters=sorted(fault.codebook.names)),
        )
