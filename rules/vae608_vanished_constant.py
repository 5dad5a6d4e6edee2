"""A small constant that keeps a value from zero is lost to rounding.

## What it does
Works out the bounds of what goes into a logarithm, a root or a divisor twice: exactly, and rounded as the numbers of each
value's type are, automatic precision on a GPU included. Where only the constant kept 0 out, and rounding takes it away, the
finding names the constant and what becomes of it.

## Why is this bad
float16 has no number between 0 and 6e-8, so that `p + 1e-8` is `p`. float32 has none between 1 - 6e-8 and 1, so that
`clamp(max=1 - 1e-10)` lets 1 pass, and `log(1 - p)` is minus infinity. The loss is infinite there and its gradient NaN.

## Example
    p = p.clamp(1e-10, 1 - 1e-10)
    loss = -(x * torch.log(p) + (1 - x) * torch.log(1 - p)).sum()

## Use instead
    loss = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")   # or clamp(1e-6, 1 - 1e-6); 1e-4 in float16

## When to ignore
When the value cannot come near zero for reasons that are not in the code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.numerics.vanished import Vanished


@rule(
    "VAE608",
    "vanished-constant",
    Severity.WARNING,
    message="a constant that keeps a value from zero is lost to rounding",
).on("numerics.vanished.vanished_constants")
def check(model: Model, vanished_constants: list[Vanished]) -> Findings:
    """Each such constant."""
    for lost in vanished_constants:
        kind = str(lost.kind).removeprefix("torch.")
        yield Found(
            model.where(lost.guard),
            label=f"{lost.constant:.10g} is {lost.becomes:g} in {kind}",
            labels=model.labels((lost.sink if lost.sink is not lost.guard else None, f"this {model.op(lost.sink)} can meet 0")),
            when="the guarded value saturates",
            why="the loss is infinite there, and its gradient NaN",
            help="use the stable function of the logits, compute it in float32, or take a constant that the type can hold: "
            + (
                "1e-6 and 1 - 1e-6 in float32"
                if kind == "float32"
                else f"1e-4 and 1 - 1e-3 in {kind}"
                if kind == "float16"
                else "1e-3 and 1 - 1e-2"
            ),
            facts={"constant": lost.constant, "becomes": lost.becomes, "type": kind},
            claim=claims.GuardVanishes(
                f"where {lost.constant:.3g} should keep it from 0, it is 0",
                guard=lost.guard,
                operand=lost.operand,
                ends=lost.ends,
                dtype=kind,
            ),
        )
