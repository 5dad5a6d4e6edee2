"""All laws, in the order they are tried."""

from vaelint.laws import addends, divergence, masks, padding, priors, relaxations, samples

__all__ = ["addends", "divergence", "masks", "padding", "priors", "relaxations", "samples"]
