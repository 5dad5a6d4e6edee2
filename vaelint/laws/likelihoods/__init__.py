"""Laws on the likelihood of the data that are about its formula, not about the sum over all values."""
