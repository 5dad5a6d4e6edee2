"""All laws, in the order they are tried."""

from vaelint.laws import divergence, padding, priors, samples

__all__ = ["divergence", "padding", "priors", "samples"]
