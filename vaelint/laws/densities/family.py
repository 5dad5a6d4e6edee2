"""All laws on densities and what weighs them, in the order they are tried."""

from vaelint.laws.densities import (
    absent_experts,
    certainty,
    class_weights,
    concentrated,
    counts,
    draws,
    experts,
    multipliers,
    normalised,
    reach,
    sampled_weights,
    sampler_kl,
    to_the_prior,
    unseen,
    weights_of_bounds,
)

__all__ = [
    "absent_experts",
    "certainty",
    "class_weights",
    "concentrated",
    "counts",
    "draws",
    "experts",
    "multipliers",
    "normalised",
    "reach",
    "sampled_weights",
    "sampler_kl",
    "to_the_prior",
    "unseen",
    "weights_of_bounds",
]
