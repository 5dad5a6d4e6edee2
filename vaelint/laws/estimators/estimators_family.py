"""All laws on estimators, in the order they are tried."""

from vaelint.laws.estimators import doubly, drawn_ratios, entropy_path, held_draws, own_scores, raised_draws

__all__ = ["doubly", "drawn_ratios", "entropy_path", "held_draws", "own_scores", "raised_draws"]
