"""Slices of a recorded step, run again on values and at sizes of our choosing."""
