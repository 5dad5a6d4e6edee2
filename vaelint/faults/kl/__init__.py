"""The KL term and its balance with the reconstruction."""
