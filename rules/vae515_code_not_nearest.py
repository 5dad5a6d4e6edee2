"""A quantiser takes a code that is not the nearest.

## What it does
Looks the codes themselves up, on the real run. Each must get itself; reported is a lookup that gives no code itself and
nearly all the farthest one: the largest of the distances, or the smallest of the likenesses. Also fits the scores that the
choice is made by: |e|^2 with another multiple of the product than 2 is not a distance. Of several stages whose codes are
added up, each must be given the value less all earlier codes.

## Why is this bad
The decoder gets the code that says least about the data, the commitment pulls the encoder across the code space, and the
few outermost codes are the only ones that are used.

z_q = e_k with k = argmin_j ||z_e - e_j||.

Source: van den Oord et al. 2017, Neural Discrete Representation Learning, eq. 1.

## Example
    k = torch.cdist(z, self.codes.weight).argmax(1)

## Use instead
    k = torch.cdist(z, self.codes.weight).argmin(1)

## When to ignore
When the farthest code is what is wanted.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule(
    "VAE515",
    "code-not-nearest",
    Severity.ERROR,
    message="the latent is replaced by a code that is not the nearest",
    needs=("loss",),
)
def check(model: Model) -> Findings:
    """The law on lookups reports these, on the real run."""
    yield from ()
