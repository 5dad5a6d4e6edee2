"""All laws on densities and what weighs them, in the order they are tried."""

from vaelint.laws.densities import (
    certainty,
    class_weights,
    concentrated,
    counts,
    draws,
    experts,
    importance,
    multipliers,
    normalised,
    sampled_weights,
    sampler_kl,
    to_the_prior,
    unseen,
)

__all__ = [
    "certainty",
    "class_weights",
    "concentrated",
    "counts",
    "draws",
    "experts",
    "importance",
    "multipliers",
    "normalised",
    "sampled_weights",
    "sampler_kl",
    "to_the_prior",
    "unseen",
]
