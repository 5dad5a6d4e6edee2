"""The reconstruction does not train the encoder.

## What it does
Walks back from the decoder's output along everything that carries a gradient, and reports where the encoder's
parameters are lost: `detach()`, `.data`, `torch.no_grad()`, a rounding, whole numbers, `.item()`, or a trip through
numpy between encoder and decoder. Draws without a gradient are VAE207; vector quantisation is VAE505.

## Why is this bad
Only the KL trains the encoder, and pulls it to the prior: it learns to ignore the input, and the decoder learns what
it can without it.

## Example
    recon = self.decoder(z.detach())

## Use instead
    recon = self.decoder(z)

## When to ignore
When the encoder is frozen on purpose; then set `requires_grad_(False)` on it, which also says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from vaelint.faults.gradients.cuts import Cut

TEXT = {
    "cut": ("no gradient passes here", "remove detach() or .data here"),
    "no_grad": ("runs under torch.no_grad()", "remove no_grad around the encoder"),
    "host": ("leaves torch here, for numpy or plain numbers", "compute this with torch: numpy and Python keep no gradient"),
    "flat": ("its slope is 0 everywhere", "keep the value as it is, or let the gradient skip the rounding: z + (z.round() - z).detach()"),
}


@rule(
    "VAE503",
    "encoder-cut-off",
    Severity.ERROR,
    message="the reconstruction's gradient does not reach the encoder",
    needs=("loss",),
    basis="shapes",
).on("gradients.cuts.encoder_cuts")
def check(model: Model, encoder_cuts: list[Cut]) -> Findings:
    """Each place at which the gradient ends."""
    for cut in encoder_cuts:
        how, advice = TEXT[cut.how]
        lost = f"{len(cut.lost)} parameters of the encoder" if cut.lost else " and ".join(model.written(h) for h in cut.heads)
        yield Found(
            cut.place or model.where(cut.node),
            label=how,
            labels=model.labels((cut.source if cut.source.op == "call_function" else None, "has a gradient up to here")),
            why=f"{lost}: trained only by the KL, or not at all",
            notes=(f"lost: {', '.join(cut.lost[:6])}{' ...' if len(cut.lost) > 6 else ''}",) if cut.lost else (),
            help=advice,
            facts={"parameters": list(cut.lost)},
            repair=repairs.KeepGradient(node=cut.node) if cut.how == "cut" else None,
            claim=claims.NoGradFromRecon("the reconstruction gives these parameters no gradient", parameters=list(cut.lost), cut=cut.node)
            if cut.lost
            else claims.NoGradFromRecon("the reconstruction gives these heads no gradient", nodes=list(cut.heads)),
        )
