"""A logarithm or root of a value that can be zero.

## What it does
Follows the bounds of values through the graph and reports `log` of what can be exactly 0 or less (a sigmoid, a
softmax, a ReLU, a square, one minus these, a product with a mask, an input whose declared range `[0,1]` begins there), and
`sqrt` of what is clamped to 0; both of what a layer drives below 0. An added epsilon, a clamp, `log_softmax`,
`logsigmoid` and the losses of torch that clamp are fine.

## Why is this bad
A float32 sigmoid is exactly 1 above 17, and exactly 0 below -104; a softmax is exactly 0 where one logit leads by
104. `log(0)` is minus infinity and its gradient is NaN after the next multiplication by 0: training runs for hours
and then every weight is NaN. The root's gradient at 0 is infinite.

## Example
    rec = -(x * torch.log(p) + (1 - x) * torch.log(1 - p))

## Use instead
    rec = F.binary_cross_entropy_with_logits(logits, x)

## When to ignore
When something outside of the graph keeps the value away from 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from vaelint.faults.numerics.numerics import Unstable


@rule("VAE701", "unstable-log", Severity.WARNING, message="a logarithm or root of a value that can be zero").on(
    "numerics.numerics.unstable_logs"
)
def check(model: Model, unstable_logs: list[Unstable]) -> Findings:
    """Each line with such an operation."""
    for found in unstable_logs:
        by = found.bounds.by
        name, edge = model.op(found.node), "0" if found.bounds.low == 0 else f"{found.bounds.low:g}"
        at = found.bounds.low if found.level is None else found.level
        squashed = by is not None and model.op(by) in ("sigmoid", "softmax")
        yield Found(
            model.where(found.node),
            label=f"{name} of a value that can be {edge}"
            if found.bounds.low > float("-inf")
            else f"{name} of a value that can be negative",
            labels=model.labels((by if by is not found.operand else None, "bounded here"), (found.operand, "")),
            when="the output saturates" if found.data is None else f"the data holds {at:g}, as its declared range says",
            why="the loss is infinite there, and its gradient NaN" if name != "sqrt" else "the gradient is infinite there",
            help="compute from the logits (binary_cross_entropy_with_logits, logsigmoid, log_softmax)"
            if squashed
            else "add a small constant, or clamp from below, before the logarithm or root",
            repair=repairs.AwayFromZero(node=found.node, low=found.bounds.low),
            claim=claims.ConstantData("it is not finite there", node=found.node, input=found.data, value=at)
            if found.data is not None
            else claims.LogOfZero("with saturated values the result is not finite", node=found.node),
        )
