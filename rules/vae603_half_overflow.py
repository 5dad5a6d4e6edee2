"""An exponential overflows in half precision.

## What it does
Finds `exp` computed in float16 on the way to the loss, whose argument is not bounded below 11.09 = log(65504), the
largest that float16 can hold.

## Why is this bad
`exp(11.1)` is infinite in float16. One log-variance beyond makes the KL infinite and the gradient NaN. bfloat16 and
float32 hold up to 88.

## Example
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1)     # in float16

## Use instead
    logvar = logvar.float()
    kl = 0.5 * (mu.float()**2 + logvar.exp() - 1 - logvar).sum(1)

## When to ignore
When something outside of the step keeps the values small.
"""

from vaelint.rule import Claim, Findings, Found, Model, Severity, rule


@rule("VAE603", "half-overflow", Severity.WARNING, message="an exponential overflows in half precision")
def check(model: Model) -> Findings:
    """Each line with such an exponential."""
    for found in model.wiring.half_overflows:
        highest = "no upper bound" if found.bounds.high == float("inf") else f"up to {found.bounds.high:g}"
        yield Found(
            model.where(found.node),
            label=f"float16, of a value with {highest}",
            labels=model.labels((found.operand, "")),
            when="the argument passes 11.09",
            why="float16 ends at 65504 = exp(11.09); beyond, the loss is infinite and its gradient NaN",
            help="compute it in float32: .float() before exp, or clamp the argument below 11",
            facts={"limit": 11.09, "high": min(found.bounds.high, 1e308)},
            claim=Claim("value_overflow", "at 12 the result is infinite", {"node": found.node, "operand": found.operand, "value": 12.0}),
        )
