"""A value that backward still needs is changed in place.

## What it does
Asks autograd, after the step, which of the values that it kept for the backward pass have been changed since, and
finds the operation in place (`mul_`, `+=`, slices assigned to) that did it: on the result of an exp, a sigmoid, a
tanh, or on an operand of a product or a square.

## Why is this bad
Autograd keeps the result of `exp` for its backward pass. Changed in place, it is another number, and `backward()`
raises: one of the variables needed for gradient computation has been modified by an inplace operation.

## Example
    std = torch.exp(0.5 * logvar)
    z = std.mul_(eps).add_(mu)

## Use instead
    std = torch.exp(0.5 * logvar)
    z = std.mul(eps).add(mu)

## When to ignore
Never: backward raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from torch import fx


@rule(
    "VAE506",
    "inplace-on-graph",
    Severity.ERROR,
    message="a value that backward still needs is changed in place",
    needs=("loss",),
).on("gradients.saved.changed_in_place")
def check(model: Model, changed_in_place: list[tuple[fx.Node, fx.Node]]) -> Findings:
    """Changes in place of results that autograd keeps."""
    for node, kept in changed_in_place:
        yield Found(
            model.where(node),
            label="changes its operand in place",
            labels=model.labels((kept, f"backward of this {model.op(kept)} needs the value as it was")),
            why="the gradient is computed from a value that is no longer there: backward() raises",
            help="use the form that makes a new tensor (mul for mul_, x = x + y for x += y)",
            repair=repairs.NotInPlace(node=node),
            claim=claims.Raises("backward() refuses", node=node),
        )
