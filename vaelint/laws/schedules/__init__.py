"""Laws of what follows a counter: weights that are reckoned from it, and learning rates."""
