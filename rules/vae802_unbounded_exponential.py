"""An exponential of a layer's output has no upper bound.

## What it does
For each layer output that goes into `exp` with no clamp, `tanh` or softplus in between, works out how large it may
become before the exponential is infinite: in float32, bfloat16 and float16, in the units of the layer's output
(`exp(0.5 * logvar)` and `exp(logvar)` differ by a factor of two). Advice, off unless selected: a trained log-variance
seldom gets near these numbers.

## Why is this bad
One sample far from the others, or inputs that were not scaled, put the head there: the KL is infinite, its gradient
NaN, and so is every weight after the next step. float16 leaves little room.

## Example
    std = torch.exp(0.5 * logvar)

## Use instead
    std = torch.exp(0.5 * logvar.clamp(-30, 20))

## When to ignore
With scaled data, float32, and a learning rate that has proved itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.numerics.overflow import Unbounded


@rule(
    "VAE802",
    "unbounded-exponential",
    Severity.INFO,
    message="an exponential has no upper bound",
    needs=("loss",),
).on("numerics.overflow.unbounded_exponentials")
def check(model: Model, unbounded_exponentials: list[Unbounded]) -> Findings:
    """One finding for each layer output: where it overflows first."""
    for fact in unbounded_exponentials:
        name, at = model.written(fact.head), {k: f"{v:.4g}" for k, v in fact.limits.items()}
        side = "above" if fact.own > 0 else "below"
        beyond = fact.own + (abs(fact.own) * 0.05 + 1) * (1 if fact.own > 0 else -1)
        yield Found(
            model.where(fact.exp),
            label=f"infinite for {name} {side} {at['float32']} in float32 and {at['bfloat16']} in bfloat16, {at['float16']} in float16",
            labels=model.labels((fact.head if fact.head is not fact.exp else None, "")),
            when=f"{name} passes {fact.own:.4g}",
            why="the loss is infinite there, and its gradient NaN",
            help="clamp the head below that, or let it pass through a softplus or a scaled tanh",
            facts={"limits": {k: round(v, 3) for k, v in fact.limits.items()}},
            claim=claims.ValueOverflow(f"at {beyond:.4g} it is infinite", node=fact.exp, operand=fact.head, value=beyond),
        )
