"""Laws on data that is missing: masks of entries, flags of whole samples, NaN."""
