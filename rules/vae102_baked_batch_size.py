"""The batch size is hard-coded.

## What it does
Runs the step at a second batch size. Where it raises there and not at the first, the two runs are compared to find
the expression that holds the number: `view(32, -1)`, `randn(self.batch_size, ...)`, a hidden state made for one size.
Also a sum over the batch that is divided by that number.

## Why is this bad
The last batch of an epoch is usually smaller, and at generation the batch has another size: the model raises there. A
fixed divisor raises nothing and weighs the last batch wrongly.

## Example
    h = self.encoder(x).view(32, -1)

## Use instead
    h = self.encoder(x).view(x.size(0), -1)

## When to ignore
When every batch has this size by construction, as with `drop_last=True` and no other use of the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Label, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from vaelint.faults.batch.pinned import Pinned


@rule(
    "VAE102",
    "baked-batch-size",
    Severity.ERROR,
    message="the batch size is hard-coded",
    basis="shapes",
).on("batch.pinned.pinned_sizes", "batch.pinned.fixed_divisors")
def check(model: Model, pinned_sizes: list[Pinned], fixed_divisors: list[Pinned]) -> Findings:
    """What raises at another size, else what divides by the size."""
    for pin in pinned_sizes:
        elsewhere = pin.raises is not None and pin.raises != pin.span
        yield Found(
            pin.span,
            label=f"{pin.size} is the batch size" + ("" if pin.span is not None else "; the number is in the step that was given"),
            labels=((Label(pin.raises, f"raises at a batch of {pin.tried}: {pin.text[:90]}"),) if elsewhere and pin.raises else ()),
            shapes=tuple(model.row(n) for n in (pin.node, pin.partner) if n is not None and model.shape_text(n) != "()"),
            when=f"the batch is not {pin.size}; tried with {pin.tried}",
            why="the last batch of an epoch is smaller" + ("" if elsewhere else f"; there torch says: {pin.text[:120]}"),
            help="take the size from an existing tensor: x.size(0), torch.randn_like(mu)",
            facts={"size": pin.size, "tried": pin.tried},
            repair=repairs.BatchFromTensor(pin=pin),
            claim=claims.RerunBatch(f"at a batch of {pin.tried} the step raises", size=pin.tried),
        )
    for pin in fixed_divisors:
        yield Found(
            pin.span,
            label=f"a sum over the batch divided by {pin.size}, the batch size of this run",
            when=f"the batch is not {pin.size}",
            why="at any other batch size (e.g. the last batch) the term is weighted differently",
            help="divide by x.size(0)",
            facts={"size": pin.size},
            repair=repairs.BatchFromTensor(pin=pin),
            claim=claims.DivisorFixed("the divisor stays the same at another batch size", node=pin.node, size=pin.tried),
        )
