"""The last activation cannot reach the data.

## What it does
Compares the range that `--input` declares with the range of the reconstruction, found by driving the decoder's raw
output to its extremes. Without a declared range nothing is assumed, unless the step itself brings any data out of
that range: to mean 0, say, for a sigmoid. The law `the-best-fit-is-the-data` also finds
elements that share one sum under a Bernoulli likelihood, log rates of a Poisson likelihood that cannot fall below 0,
and a decoder that puts out the rescaled data and is compared with the raw one.

## Why is this bad
With a sigmoid on data in [-1, 1], half of the values can never be reproduced: an error floor, grey or clipped
reconstructions.

## Formula
-log p(x|r) has its minimum at r = x: every value of the data must be one that r can take.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, eq. 12 (appendix C.2): the mean of the decoder's
Gaussian.

## Example
    recon = torch.sigmoid(self.out(h))      # data in [-1, 1]
    recon = F.relu(self.out(h))             # data of mean 0
    F.poisson_nll_loss(F.softplus(h), x)    # takes log rates: no rate below 1

## Use instead
    recon = torch.tanh(self.out(h))         # data in [-1, 1]

## When to ignore
When values outside are known to be outliers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from vaelint.anatomy.loss.facts import ReconFact
    from vaelint.faults.likelihood.likelihood import Mismatch


@rule(
    "VAE308",
    "output-range",
    Severity.ERROR,
    message="the last activation cannot reach the data",
    needs=("reconstruction",),
).on("likelihood.likelihood.output_mismatch")
def check(model: Model, output_mismatch: Callable[[ReconFact], Mismatch | None]) -> Findings:
    """Reconstructions bounded within the declared data."""
    for fact in model.recons:
        gap = output_mismatch(fact) if fact.probe.kernel in ("squared_error", "absolute_error", "log_cosh") else None
        if gap is None:
            continue
        squash = model.activation(fact.pair.recon) or gap.reach.bound_by
        reached = f"[{gap.reach.low:.3g}, {gap.reach.high:.3g}]"
        yield Found(
            model.where(fact.pair.meet),
            label=f"data in [{gap.low:g}, {gap.high:g}], reconstruction in {reached}",
            labels=model.labels((squash, f"puts out {reached}")) + model.birth_labels(squash, "the activation is made here"),
            why="part of the data is out of reach for every reconstruction: the error has a floor",
            help="use an activation that covers the data (tanh for [-1, 1], sigmoid for [0, 1], none for standardised data), "
            "or rescale the data",
            facts={"data": [gap.low, gap.high], "reconstruction": [gap.reach.low, gap.reach.high]},
            repair=repairs.ActivationForData(activation=squash, data=(gap.low, gap.high)),
            claim=claims.ValueRange(f"the reconstruction stays in {reached}", node=fact.pair.recon, low=gap.reach.low, high=gap.reach.high),
        )
