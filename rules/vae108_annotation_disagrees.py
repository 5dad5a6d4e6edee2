"""A shape annotation disagrees with a call.

## What it does
Compares the axis strings of jaxtyping annotations (`Float[Tensor, "batch latent"]`), with or without its decorators,
with the shapes of every call in the trace. Names are bound within a call, as jaxtyping does. Shapes are symbolic: a
latent of 32 is not a batch of 32, although the numbers are equal.

## Why is this bad
Either the annotation misleads its readers, or the code passes something other than intended. Without a run-time type
checker this goes unnoticed; with one, sizes that happen to be equal still pass.

## Example
    def decode(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch features"]: ...

    self.decode(torch.stack(samples))    # (K, B, L)

## Use instead
    self.decode(torch.stack(samples).flatten(0, 1))

## When to ignore
When the annotation is meant to be looser than jaxtyping reads it; write `...` or `_` for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Label, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.shapes.annotations import Disagreement


@rule(
    "VAE108",
    "annotation-disagrees",
    Severity.WARNING,
    message="a shape annotation and the shape at a call disagree",
    basis="shapes",
).on("shapes.annotations.disagreements")
def check(model: Model, disagreements: list[Disagreement]) -> Findings:
    """Each annotation that a call violates."""
    for one in disagreements:
        subject = "the result" if one.name == "the result" else one.name
        places = ((one.caller, f"{subject} of this call: {model.shape_text(one.node)}"), (one.against, "the size differs here"))
        yield Found(
            one.span,
            label=one.what,
            labels=tuple(Label(place, text) for place, text in places if place is not None),
            shapes=(model.row(one.node, f"annotated as {' '.join(one.axes) or 'a scalar'}", one.name),)
            + ((model.row(one.bound),) if one.bound is not None else ()),
            why=f"the annotation and the call of {one.function} contradict each other",
            help="fix the call if the annotation is right, else the annotation",
            claim=claims.AnnotatedShape(one.what, node=one.node, measure=one.measure, bound=one.bound),
        )
