"""Laws of the rows of a batch: each sample by itself, and all of them."""
