"""All laws on densities and what weighs them, in the order they are tried."""

from vaelint.laws.densities import certainty, class_weights, counts, draws, experts, multipliers, normalised, unseen, weights

__all__ = ["certainty", "class_weights", "counts", "draws", "experts", "multipliers", "normalised", "unseen", "weights"]
