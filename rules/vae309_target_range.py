"""The target of a Bernoulli likelihood is outside [0, 1].

## What it does
Compares the declared range of the data, after what the code does to it, with [0, 1] where the likelihood is binary
cross-entropy.

## Why is this bad
For a target outside [0, 1] the cross-entropy is unbounded below: the loss goes to minus infinity.
`binary_cross_entropy` refuses such targets on the CPU since 2.x, the form with logits never does.

## Formula
-x log y - (1 - x) log(1 - y) is bounded below for 0 <= x <= 1 only.

Source: Loaiza-Ganem & Cunningham 2019, The continuous Bernoulli, section 2; Kingma & Welling 2014, Auto-Encoding
Variational Bayes, eq. 11.

## Example
    x = images.float()                       # 0..255
    loss = F.binary_cross_entropy_with_logits(recon, x)

## Use instead
    x = images.float() / 255
    loss = F.binary_cross_entropy_with_logits(recon, x)

## When to ignore
Never.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from vaelint.anatomy.loss.facts import ReconFact


@rule(
    "VAE309",
    "target-range",
    Severity.ERROR,
    message="the target of a Bernoulli likelihood is outside [0, 1]",
    needs=("reconstruction",),
).on("likelihood.likelihood.target_range")
def check(model: Model, target_range: Callable[[ReconFact], tuple[float, float] | None]) -> Findings:
    """Declared data outside [0, 1] under a Bernoulli likelihood."""
    for fact in model.recons:
        data = target_range(fact) if fact.probe.kernel in ("bce", "bce_with_logits") else None
        if data is None or (data[0] >= -1e-6 and data[1] <= 1 + 1e-6):
            continue
        yield Found(
            model.where(fact.pair.meet),
            label=f"target in [{data[0]:g}, {data[1]:g}]",
            labels=model.labels((fact.pair.target, "")),
            why="the likelihood is for values in [0, 1]; outside, the loss has no lower bound",
            help="scale the data to [0, 1], or use a Gaussian likelihood",
            facts={"data": list(data)},
            repair=repairs.RescaleTarget(meet=fact.pair.meet, target=fact.pair.target, data=data),
            claim=claims.ValueRange("the target leaves [0, 1]", node=fact.pair.target, outside=(0.0, 1.0)),
        )
