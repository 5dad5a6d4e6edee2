"""An exponential or a sum overflows in half precision.

## What it does
Finds `exp` computed in float16 on the way to the loss, whose argument is not bounded below 11.09 = log(65504), the
largest that float16 can hold; and sums in float16 over so many values that a mean of 1 (or of the bound they have)
passes 65504. Under `autocast` on CUDA both are computed in float32 and left alone.

## Why is this bad
`exp(11.1)` is infinite in float16, and so is the sum of 65505 ones. One log-variance beyond, or one larger batch,
makes the loss infinite and the gradient NaN. bfloat16 and float32 hold up to 3e38.

## Example
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1)     # in float16
    rec = ((recon - x) ** 2).sum()                            # in float16, over 32 x 3 x 64 x 64 values

## Use instead
    logvar = logvar.float()
    kl = 0.5 * (mu.float()**2 + logvar.exp() - 1 - logvar).sum(1)
    rec = ((recon.float() - x.float()) ** 2).sum()

## When to ignore
When something outside of the step keeps the values small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from vaelint.faults.numerics.numerics import Overflow


@rule("VAE603", "half-overflow", Severity.WARNING, message="a value overflows in half precision").on("numerics.numerics.half_overflows")
def check(model: Model, half_overflows: list[Overflow]) -> Findings:
    """Each line with such an exponential or sum."""
    for found in half_overflows:
        highest = "no upper bound" if found.high == float("inf") else f"values up to {found.high:g}"
        if found.summed > 1:
            label, when = f"float16, the sum of {found.summed} values", f"their mean passes {found.limit:.3g} = 65504 / {found.summed}"
            why = "float16 ends at 65504; beyond, the loss is infinite and its gradient NaN"
            advice, at = "sum in float32: .float() before the sum, or a mean", min(found.high, 4 * max(1.0, found.limit))
        else:
            label, when = f"float16, of a value with {highest}", "the argument passes 11.09"
            why = "float16 ends at 65504 = exp(11.09); beyond, the loss is infinite and its gradient NaN"
            advice, at = "compute it in float32: .float() before exp, or clamp the argument below 11", 12.0
        yield Found(
            model.where(found.node),
            label=label,
            labels=model.labels((found.operand, "")),
            when=when,
            why=why,
            help=advice,
            facts={"limit": round(found.limit, 6), "high": min(found.high, 1e308)},
            repair=repairs.InFloat32(node=found.node),
            claim=claims.ValueOverflow(f"at {at:.3g} the result is infinite", node=found.node, operand=found.operand, value=at),
        )
