"""Mean and log-variance are exchanged between sampler and KL.

## What it does
Evaluates the KL as a function of both heads: if it is exact with the two exchanged, they were. Measurement cannot
tell whether the sampler or the KL has the intended order; if names do, the finding says so, and points at the other.

## Why is this bad
The sampler uses one head as the mean, the KL the other: both heads are pulled to the wrong place, and nothing raises,
since they have the same shape.

## Formula
KL(N(m, s^2) || N(0, 1)) = 0.5 * sum_j (m_j^2 + s_j^2 - 1 - log s_j^2), and z = m + s e with the same m and s.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, appendix B and eq. 10.

## Example
    recon, mu, logvar = model(x)
    loss = loss_function(recon, x, logvar, mu)

## Use instead
    recon, mu, logvar = model(x)
    loss = loss_function(recon, x, mu, logvar)

## When to ignore
Never.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from vaelint.anatomy.loss.facts import KlFact
    from vaelint.faults.likelihood.swapped import Swap


@rule(
    "VAE410",
    "swapped-posterior",
    Severity.ERROR,
    message="mean and log-variance are exchanged between sampler and KL",
    needs=("kl",),
    basis="replay",
).on("likelihood.swapped.find_swap")
def check(model: Model, find_swap: Callable[[KlFact], Swap]) -> Findings:
    """KLs that are exact for exchanged heads."""
    for fact in model.kls:
        if fact.probe.verdict != "swapped" or fact.site is None:
            continue
        swap = find_swap(fact)
        yield Found(
            swap.place,
            label="exchanges the posterior's parameters",
            labels=model.labels(
                (fact.term.core, "the KL uses the scale's head as the mean"), (fact.site.z, "the sampler uses them the other way round")
            ),
            why="the head that the sampler adds is charged as a log-variance, and the one it exponentiates as a mean",
            help="exchange the two arguments",
            notes=(swap.tie,),
            repair=repairs.SwapHeads(place=swap.place, heads=fact.site.heads),
            claim=claims.KlClosedForm("the term differs from the closed form", fact=fact),
        )
