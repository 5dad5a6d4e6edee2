"""The loss as a sum of terms, what each weighs, and what the whole amounts to."""
