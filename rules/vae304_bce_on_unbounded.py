"""Binary cross-entropy gets values outside [0, 1].

## What it does
Finds Bernoulli likelihoods on probabilities whose argument is a raw layer output, and distributions of the decoder whose
`probs` can leave [0, 1], or are negative where torch divides them by their sum.

## Why is this bad
-x log y - (1 - x) log(1 - y) needs y in [0, 1]; outside, torch raises on the CPU and asserts on the device (which
kills the CUDA context), or a hand-written form gives NaN.

## Formula
-log p(x|y) = -x log y - (1 - x) log(1 - y), for 0 <= y <= 1.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, eq. 11 (appendix C.1).

## Example
    recon = self.out(h)
    loss = F.binary_cross_entropy(recon, x)

## Use instead
    recon = self.out(h)
    loss = F.binary_cross_entropy_with_logits(recon, x)

## When to ignore
Never.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from torch import fx

    from vaelint.record.record import MadeDistribution


@rule(
    "VAE304",
    "bce-on-unbounded",
    Severity.ERROR,
    message="binary cross-entropy gets values outside [0, 1]",
    needs=("reconstruction",),
).on("likelihood.improbable.improbable")
def check(model: Model, improbable: list[tuple[MadeDistribution, fx.Node]]) -> Findings:
    """Likelihoods on probabilities whose reconstruction is not bounded to [0, 1]."""
    for fact in model.recons:
        reach = model.range_of(fact.pair.recon) if fact.probe.kernel == "bce" else None
        if reach is None or (reach.low >= -1e-9 and reach.high <= 1 + 1e-9):
            continue
        yield Found(
            model.where(fact.pair.meet),
            label="wants probabilities",
            labels=model.labels((fact.pair.raw[0], "a raw layer output")),
            why="the reconstruction is unbounded; on a GPU this is a device-side assert, elsewhere NaN or an error",
            help="use binary_cross_entropy_with_logits, or end the decoder with a sigmoid",
            repair=repairs.LossOnLogits(meet=fact.pair.meet),
            claim=claims.Raises("binary cross-entropy raises, or is not finite", node=fact.pair.recon, low=0.0, high=1.0),
        )
    for made, probability in improbable:
        if probability is not made.parameters["probs"]:
            yield Found(
                made.stack[0],
                label=f"{made.family} is given probabilities that can be negative",
                labels=model.labels((probability, "can be below 0")),
                why="they are divided by their sum, and nothing raises: of logarithms the least likely value gets the largest share",
                help="give logits and log-probabilities as logits=",
                claim=claims.ValueRange("the probability is negative", node=probability, outside=(0.0, math.inf)),
            )
            continue
        yield Found(
            made.stack[0],
            label=f"{made.family} is given a probability",
            labels=model.labels((probability, "can leave [0, 1]")),
            why="torch refuses a probability outside [0, 1] as soon as one appears; without validation it is clipped, with no gradient",
            help="give it as logits=, or end the decoder with a sigmoid",
            claim=claims.ValueRange("the probability leaves [0, 1]", node=probability, outside=(0.0, 1.0)),
        )
