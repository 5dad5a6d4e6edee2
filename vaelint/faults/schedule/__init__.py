"""Weights of the KL that do not move, or that nothing reads."""
