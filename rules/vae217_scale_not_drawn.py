"""The posterior's scale has a KL, and z is drawn without it.

## What it does
Where z is the mean plus noise that no head of the encoder scales, looks for a term of the loss that is a function of one
further head of the mean's shape, least somewhere in the middle, as the KL of a scale is. If neither the reconstruction nor
another draw depends on that head, the KL charges for a scale that is never used.

## Why is this bad
Only the KL trains the head, so it collapses to the prior's scale: the posterior carries no uncertainty, and z is
drawn from another distribution than the one in the KL. The loss is not the ELBO.

## Example
    std = torch.exp(0.5 * logvar)
    z = mu + 0.1 * torch.randn_like(mu)

## Use instead
    z = mu + std * torch.randn_like(std)

## When to ignore
Never while the scale has a term in the loss; for a fixed scale, leave the head and its term out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.sampling.unscaled import Unscaled


@rule(
    "VAE217",
    "scale-not-drawn",
    Severity.ERROR,
    message="the posterior's scale is in the KL and not in z",
    needs=("site", "kl"),
).on("sampling.unscaled.unscaled_draws")
def check(model: Model, unscaled_draws: list[Unscaled]) -> Findings:
    """Each draw that leaves the scale out."""
    for fact in unscaled_draws:
        yield Found(
            model.where(fact.site.z),
            label=f"the noise is not scaled by {model.written(fact.computed or fact.head)}",
            labels=model.labels((fact.computed, "computed, and never used"), (fact.head, "only the KL reads this head")),
            shapes=(model.row(fact.site.z, "drawn"), model.row(fact.head, "not used")),
            why="only the KL trains the scale, so it collapses to the prior's; z is drawn from another distribution",
            help="z = mu + std * torch.randn_like(std), with the std that the KL is computed for",
            claim=claims.NoGradFromRecon("the reconstruction gives the scale's head no gradient", nodes=[fact.head]),
        )
