"""A logarithm of an exponential overflows or vanishes before the logarithm is taken.

## What it does
Reports `log(1 + exp(t))`, `log1p(exp(t))` and `log(exp(t).sum(...))` on the way to the loss, where t has no upper
bound below the overflow of exp: 88.7 in float32, 11.09 in float16. With the highest value taken off before
(`t - t.max()`), or of `-t.abs()`, they are fine. In the standard deviation of a draw, which does not get that large,
it is only a remark. The other end counts for log-densities that are summed over data or latent (importance weights, the
components of a mixture): below -104 every exponential is exactly 0 in float32.

## Why is this bad
Beyond the bound the result is infinite and its gradient NaN, where the right answer is close to t. One confident
logit ends the training.

## Example
    rec = torch.log(1 + torch.exp(logits)) - x * logits

## Use instead
    rec = F.softplus(logits) - x * logits        # or F.binary_cross_entropy_with_logits

## When to ignore
When something outside of the graph keeps t small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.numerics.quotients import Naive


@rule(
    "VAE703",
    "naive-softplus",
    Severity.WARNING,
    message="an exponential overflows or vanishes before its logarithm is taken",
).on("numerics.quotients.naive_logs")
def check(model: Model, naive_logs: list[Naive]) -> Findings:
    """Each line with such a logarithm."""
    for found in naive_logs:
        at = round(found.limit * 1.15)
        passes = "is below" if found.below else "passes"
        yield Found(
            model.where(found.log),
            label=f"infinite once {'all of ' if found.below else ''}{model.written(found.operand)} {passes} {found.limit:g}",
            labels=model.labels((found.operand, "")),
            when=f"{model.written(found.operand)} {passes} {found.limit:g}",
            why="the loss is infinite there and its gradient NaN",
            help=f"{found.stable}, which does the same without {'losing the small ones' if found.below else 'overflow'}",
            facts={"limit": found.limit},
            severity=Severity.INFO if found.sampler else None,
            claim=claims.ValueOverflow(f"at {at:g} it is infinite", node=found.log, operand=found.operand, value=float(at)),
        )
