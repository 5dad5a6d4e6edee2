"""Laws on densities: the likelihood, the posterior's own density, and what several draws weigh."""
