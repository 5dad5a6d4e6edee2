"""All laws on densities, in the order they are tried."""

from vaelint.laws.densities import class_weights, counts, draws, normalised

__all__ = ["class_weights", "counts", "draws", "normalised"]
