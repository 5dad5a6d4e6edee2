"""Tensors and devices that will not meet."""
