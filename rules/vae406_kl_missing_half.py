"""The KL is written without its 1/2.

## What it does
Measures the weight of the KL in absolute terms: 2 with no named weight, beside a reconstruction of weight 1 or 1/2,
is a forgotten 1/2. A sum of squared errors that has no 1/2 either gets a remark (info): both together are exactly twice
the ELBO of a Gaussian decoder with variance 1, a correct objective.

## Why is this bad
KL(N(m, s^2) || N(0, 1)) = 1/2 * (m^2 + s^2 - 1 - log s^2) (Kingma & Welling 2014, appendix B). Without the 1/2 it is
a beta-VAE with beta = 2, silently.

## Formula
KL(N(m, s^2) || N(0, 1)) = 0.5 * sum_j (m_j^2 + s_j^2 - 1 - log s_j^2).

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, appendix B.

## Example
    kl = -(1 + logvar - mu.pow(2) - logvar.exp()).sum(-1)
    kl = torch.sum(mu ** 2 + logvar.exp() - 1 - logvar)
    kl = (mu ** 2 + std ** 2 - 1 - 2 * std.log()).sum()

## Use instead
    kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(-1)

## When to ignore
When beta = 2 is intended: write `beta * kl`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from vaelint.faults.kl.scale_verdicts import ScaleVerdict


@rule(
    "VAE406",
    "kl-missing-half",
    Severity.WARNING,
    message="the KL lacks its factor 1/2",
    needs=("beta",),
    basis="replay",
).on("kl.scale_verdicts.scale_verdicts", "kl.scale_report.scale_found")
def check(model: Model, scale_verdicts: list[ScaleVerdict], scale_found: Callable[..., Found]) -> Findings:
    """Effective betas of 2 whose KL is written with weight 2."""
    for verdict in scale_verdicts:
        if verdict.fault != "half":
            continue
        held = verdict.beta.kl.inside is not None
        if verdict.is_twice_the_elbo:
            yield scale_found(
                verdict,
                label="has no 1/2, as the squared error",
                why="the loss is exactly twice the ELBO of a Gaussian decoder with variance 1",
                help="nothing, or a factor 0.5 on both",
            )
            continue
        yield scale_found(
            verdict,
            label="counts each latent twice",
            why="the posterior is held twice as close to the prior" if held else "this trains a beta-VAE with beta = 2",
            help="multiply by 0.5",
        )
