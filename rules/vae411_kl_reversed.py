"""The KL is taken in the wrong direction.

## What it does
Measures how d loss / d mu moves with the posterior's variance: in KL(q || p) it does not, in KL(p || q) it falls with
it.

## Why is this bad
The ELBO has KL(q(z|x) || p(z)). Reversed, the posterior is pushed to cover the prior: it becomes over-dispersed,
and the loss is not a bound.

## Formula
KL(q || p) = E_q[log q - log p]; for N(m, s^2) against N(0, 1) 0.5 (m^2 + s^2 - 1 - log s^2). The reverse is 0.5
((m^2 + 1) / s^2 - 1 + log s^2).

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, eq. 3 and appendix B.

## Example
    kl = kl_divergence(prior, posterior).sum(-1).mean()
    kl = 0.5 * ((1 + mu ** 2) / logvar.exp() - 1 + logvar).sum()       # the same, written out

## Use instead
    kl = kl_divergence(posterior, prior).sum(-1).mean()

## When to ignore
When the reversed divergence is intended, as in some balancing schemes: then both directions appear with a detach each,
and the rule is silent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, Span, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import fx

    from vaelint.anatomy.loss.facts import KlFact


@rule(
    "VAE411",
    "kl-reversed",
    Severity.ERROR,
    message="the KL is taken in the wrong direction",
    needs=("kl",),
    basis="replay",
).on("kl.direction.reversed_at", "sampling.idle.prior_draws")
def check(model: Model, reversed_at: Callable[[KlFact], Span | None], prior_draws: list[tuple[fx.Node, fx.Node, fx.Node]]) -> Findings:
    """Terms whose gradients are those of KL(p || q), where it is the posterior that is drawn from."""
    charged = {core for _, core, _ in prior_draws}
    for fact in model.kls:
        if fact.probe.verdict != "reversed" or fact.term.core in charged:
            continue
        yield Found(
            reversed_at(fact),
            label="KL(prior || posterior)",
            labels=model.labels((fact.site.z, "the posterior is drawn here")) if fact.site else (),
            why="the ELBO has KL(posterior || prior); the other direction spreads the posterior over the prior",
            help="exchange the arguments: kl_divergence(posterior, prior)",
            repair=repairs.KlDirection(core=fact.term.core),
            claim=claims.KlClosedForm("the term differs from KL(q || p)", fact=fact),
        )
