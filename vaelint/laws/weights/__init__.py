"""Laws on the weights of the terms."""
