"""All laws, in the order they are tried."""

from vaelint.laws import divergence, padding, samples

__all__ = ["divergence", "padding", "samples"]
