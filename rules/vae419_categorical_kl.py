"""The categorical KL term is not a KL divergence.

## What it does
Evaluates the term at the uniform distribution, where the KL to a uniform prior is 0 and has no gradient, and at
random distributions. A prior that is learned must add up to one number whatever its own numbers are.

## Why is this bad
KL(q || uniform) = sum q (log q + log K). With 1/K for log(1/K), or logits for probabilities, it is negative somewhere
and its minimum is elsewhere.

## Formula
KL(q || uniform) = sum_k q_k (log q_k + log K).

Source: Jang et al. 2017, Categorical Reparameterization with Gumbel-Softmax, section 3; Cover & Thomas 2006,
Elements of Information Theory, eq. 2.26.

## Example
    kl = (q * (torch.log(q) - 1 / K)).sum()
    kl = (logits * (F.log_softmax(logits, -1) + math.log(K))).sum()    # logits for probabilities

## Use instead
    kl = (q * (torch.log(q) + math.log(K))).sum()

## When to ignore
When the prior is not uniform.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.kl.categorical_faults import CategoricalFault

_LEARNED = "use (q * (log q - log p)).sum(), with log p the log_softmax of the prior's own numbers"
_UNIFORM = "use (q * (log q + log K)).sum(), with q the probabilities and K the number of classes"
_BINARY = "use q * (log q - log p) + (1 - q) * (log(1 - q) - log(1 - p)), with p the prior's probability of a 1"


@rule(
    "VAE419",
    "categorical-kl",
    Severity.ERROR,
    message="the categorical KL term is not a KL divergence",
    needs=("kl",),
    basis="replay",
).on("kl.categorical_faults.categorical_faults")
def check(model: Model, categorical_faults: list[CategoricalFault]) -> Findings:
    """Terms in a categorical posterior that do not vanish at the uniform prior."""
    for fault in categorical_faults:
        yield Found(
            model.where(fault.fact.term.core),
            label=fault.what,
            why="a KL is 0 at the prior and positive elsewhere; this term is not",
            help=_BINARY if fault.binary else _LEARNED if fault.of_learned_prior else _UNIFORM,
            claim=claims.KlClosedForm("the term differs from the closed form", fact=fault.fact, binary=fault.binary),
        )
