"""The loss has no lower bound in an output of the prior.

## What it does
For the outputs of layers that only the divergence terms see (the mean and log-variance of a learned prior), runs
these terms with the output further and further from 0, and reports those that fall faster than a straight line.

## Why is this bad
-log p(z) of a Gaussian prior grows with the error and with the variance. Subtracted where it should be added, the
optimum is an infinite error under an infinite variance: the loss goes to minus infinity and samples from the prior
are meaningless.

## Formula
-log N(z; m, s^2) = 0.5 * ((z - m)^2 / s^2 + log s^2 + log(2 pi)): it grows with the error, without bound.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, appendix C.2, eq. 12, and eq. 3.

## Example
    kl_p = -0.5 * (1 + lv_p - (z - mu_p) ** 2 - lv_p.exp()).sum(1)      # >= 0
    loss = rec - kl_p.mean()

## Use instead
    nll_p = 0.5 * (lv_p + (z - mu_p) ** 2 / lv_p.exp()).sum(1)
    loss = rec + (nll_p + log_q).mean()

## When to ignore
When something outside of the loss holds the output, such as a clamp in the optimizer's step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.bounds.unbounded import Unbounded


@rule(
    "VAE425",
    "loss-unbounded-below",
    Severity.ERROR,
    message="the loss has no lower bound in an output of the prior",
    needs=("site", "loss"),
    basis="replay",
).on("bounds.unbounded.unbounded_outputs")
def check(model: Model, unbounded_outputs: list[Unbounded]) -> Findings:
    """Outputs in which the divergence falls without end; one finding for each expression."""
    seen = set()
    for found in unbounded_outputs:
        place = model.where(found.leaf)
        line = (place.file, place.line) if place is not None else None
        if line in seen:
            continue
        seen.add(line)
        yield Found(
            place,
            label=f"the loss falls without end as {model.written(found.output)} goes to {'' if found.at > 0 else 'minus '}infinity",
            labels=model.labels((found.output, "")),
            why="training lowers the loss by moving this output away, not by making the prior fit",
            help="add the negative log-density of the prior: 0.5 * (lv_p + (z - mu_p) ** 2 / lv_p.exp())",
            claim=claims.UnboundedFall("the term falls faster than a line", output=found.output, leaves=found.leaves, at=found.at),
        )
