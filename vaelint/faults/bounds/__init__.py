"""Bounds beyond the plain ELBO: mixtures, importance weights, flows, hierarchies."""
