"""What is known of a KL term once it was measured."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from vaelint.late import dataclass

Verdict = Literal[
    "exact",
    "prior",
    "monte_carlo",
    "drawn",
    "decomposed",
    "wrong",
    "sign",
    "parameterisation",
    "swapped",
    "reversed",
    "inverted_floor",
    "at_mean",
    "other",
    "unknown",
    "mean_only",
    "categorical",
    "bernoulli",
    "sphere",
    "concentration",
    "sampled",
]


KNOWN: frozenset[Verdict] = frozenset(
    {"exact", "prior", "monte_carlo", "drawn", "mean_only", "categorical", "bernoulli", "sphere", "concentration", "sampled"}
)
"""Verdicts on a term that is a KL of right sign, whose weight means something."""


@dataclass
class KlProbe:
    """What was measured of a KL term.

    `weight` is the term's weight against the exact KL of one latent, at the probe's sizes; `coefficients` are those of m in dL/dm and of
    s^2 and -1 in dL/dlog s, divided by the weight of a correct term: (1, 1, 1) when the formula is right.
    """

    verdict: Verdict
    weight: float = 0.0
    coefficients: dict[str, float] = field(default_factory=dict)
    reads_as: str = ""  # the parameterisation under which the term is an exact KL
    prior: tuple[float, float] = (0.0, 1.0)  # mean and standard deviation of the prior, when constant
    capacity: bool = False  # the sign of its gradient depends on the KL: |KL - C|
    floor: bool = False  # no gradient while the KL is small: free bits
    inside: bool = False  # what is off shows inside of the capacity or the floor only
    reason: str = ""
    monte_carlo: bool = False
    stopped: bool = False  # log q(z) at stopped posterior parameters: the gradient is that along the draw alone
    flow: bool = False  # the prior sees z through learned layers
    learned_prior: bool = False
    distance: bool = False  # it is no KL, and holds the posterior to N(0, 1) all the same: a Wasserstein distance, one of moments
    several: bool = False  # it holds the posterior to a fixed prior and to learned ones: the weight is of all together
    apart: bool = False  # log q(z) and log p(z) have two weights: the one told is that of log p
    entropy: bool = False  # it is the part in the scale alone that is off, and has the wrong sign
    whole: bool = False  # measured as one function of all heads: full covariance, mixed heads
    correlated: bool = False  # whole, and the prior's dimensions are correlated
    constant: float = 0.0  # what the term lacks to be 0 at the prior, for each latent element, in units of its weight
    family: str = "Gaussian"  # of the posterior, where it is located and scaled
