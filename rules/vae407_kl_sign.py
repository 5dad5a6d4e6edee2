"""The KL enters the loss with the wrong sign.

## What it does
Measures d loss / d mu through the KL term: it must push the mean towards the prior. The sign is that of the term in
the minimised loss, after all negations, never that of its line.

## Why is this bad
A negative KL rewards the posterior for leaving the prior: variances explode or vanish, and the loss falls without
bound.

## Formula
loss = -log p(x|z) + KL, and KL(N(m, s^2) || N(0, 1)) = 0.5 * sum_j (m_j^2 + s_j^2 - 1 - log s_j^2) >= 0.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, eq. 3 and appendix B.

## Example
    kl = 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    loss = rec + kl

## Use instead
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    loss = rec + kl

## When to ignore
Never. (An ELBO that is maximised and then negated is not reported.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import fx

    from vaelint.anatomy.loss.facts import KlFact
    from vaelint.anatomy.loss.terms import Term

_HELD = "inside of |KL - C| it adds up with the capacity: the KL is pulled to 0, whatever the capacity is"
_LIMITED = "minus the KL is never above 0: the floor is all that is left of it, and nothing holds the posterior"


@rule(
    "VAE407",
    "kl-sign",
    Severity.ERROR,
    message="the KL enters the loss with the wrong sign",
    needs=("loss",),
    basis="replay",
).on("kl.term_places.kl_sign_place", "kl.discrepancy.turned_discrepancies")
def check(
    model: Model, kl_sign_place: Callable[[KlFact], fx.Node | None], turned_discrepancies: list[tuple[Term, fx.Node | None]]
) -> Findings:
    """KL terms, and distances of the codes to draws of the prior, that push the posterior away from the prior."""
    for fact in model.kls:
        if fact.probe.verdict != "sign":
            continue
        bent = (_HELD if fact.probe.capacity else _LIMITED) if fact.probe.inside else ""
        yield Found(
            model.pointed(kl_sign_place(fact)),
            label=f"weight {fact.probe.weight:.3g} on the KL",
            labels=model.labels((model.record.loss, "minimised here")),
            why=bent or "the loss rewards the posterior for leaving the prior, and has no lower bound",
            help="change the sign of the term",
            facts={"weight": fact.probe.weight},
            repair=repairs.KlSign(place=kl_sign_place(fact)),
            claim=None if bent else claims.KlGradient("a step towards the prior raises the loss", fact=fact),
        )
    for term, place in turned_discrepancies:
        yield Found(
            model.pointed(place),
            label="the loss falls as the codes leave the prior",
            labels=model.labels((term.core, "the distance of codes and prior"), (model.record.loss, "minimised here")),
            why="the encoder is rewarded for codes that the prior does not have: nothing that is drawn from it can be decoded",
            help="change the sign of the term",
            claim=claims.DiscrepancyFalls("the loss falls as the codes are moved away from the prior", term=term),
        )
