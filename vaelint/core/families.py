"""The families of rules by the beginning of their codes. Imports no torch."""

from __future__ import annotations

FAMILIES = {
    "VAE0": "setup",
    "VAE1": "shapes",
    "VAE2": "reparameterisation",
    "VAE3": "reconstruction",
    "VAE4": "KL and scale",
    "VAE5": "gradient flow",
    "VAE6": "device and dtype",
    "VAE7": "numerics",
    "VAE8": "advice",
    "VAE9": "training",
}
