"""The reconstruction term has the wrong sign.

## What it does
Measures the gradient of the loss with respect to the reconstruction: it must point away from the target, so that
descent goes towards it.

## Why is this bad
A log-likelihood that is added to a loss instead of subtracted is minimised: the model is trained to be as far from
the data as it can, and the loss goes to minus infinity.

## Formula
loss = -log p(x|z) + KL: for squared error +(x - r)^2 / (2 s^2), for a Bernoulli -x log y - (1 - x) log(1 - y).

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, eq. 3, with its sign turned: a loss is minimised.

## Example
    loss = p.log_prob(x).sum(-1).mean() + kl
    loss = kl - F.mse_loss(recon, x, reduction="sum")
    loss = (x * recon - F.softplus(recon)).sum() + kl

## Use instead
    loss = -p.log_prob(x).sum(-1).mean() + kl

## When to ignore
Never.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import fx

    from vaelint.anatomy.loss.facts import ReconFact


@rule(
    "VAE311",
    "recon-sign",
    Severity.ERROR,
    message="the reconstruction term has the wrong sign",
    needs=("reconstruction",),
    basis="replay",
).on(
    "likelihood.likelihood.swapped_arguments",
    "likelihood.compared_at.recon_sign_place",
    "likelihood.control_variates.is_control_variate",
    "likelihood.compared_at.own_scale",
    "likelihood.compared_at.normalises",
)
def check(
    model: Model,
    swapped_arguments: Callable[[ReconFact], bool],
    recon_sign_place: Callable[[ReconFact], fx.Node | None],
    is_control_variate: Callable[[ReconFact], bool],
    own_scale: Callable[[ReconFact], fx.Node | None],
    normalises: Callable[[ReconFact], bool],
) -> Findings:
    """Terms that shrink as the reconstruction moves away from the target."""
    seen = set()
    for fact in model.recons:
        if fact.probe.weight >= 0 or fact.probe.kernel in ("other", "unknown") or swapped_arguments(fact) or normalises(fact):
            continue
        if is_control_variate(fact):
            continue
        node = recon_sign_place(fact)
        place, by_scale = model.pointed(node), node is not None and node is own_scale(fact)
        line = (place.file, place.line) if place is not None else None
        if line in seen:  # one likelihood, written as two products
            continue
        seen.add(line)
        yield Found(
            place,
            label="the scale is made of the error here, and outweighs it" if by_scale else "a likelihood that is minimised",
            labels=model.labels((fact.pair.meet, "compared with the data here"), (model.record.loss, "the loss")),
            why="the scale shrinks faster than the error does: a better reconstruction raises the loss"
            if by_scale
            else "the loss falls as the reconstruction moves away from the data, without bound",
            help="take the standard deviation of the error for the scale: log sigma = 0.5 * log of the mean squared error"
            if by_scale
            else "subtract the log-likelihood, or add the error",
            repair=None if by_scale else repairs.ReconSign(fact=fact),
            claim=claims.ReconGradient("moving the reconstruction towards the target raises the loss", fact=fact),
        )
