"""All laws, in the order they are tried."""

from vaelint.laws import addends, divergence, masks, padding, padding_inert, places, priors, relaxations, samples, separate_samples

__all__ = ["addends", "divergence", "masks", "padding", "padding_inert", "places", "priors", "relaxations", "samples", "separate_samples"]
