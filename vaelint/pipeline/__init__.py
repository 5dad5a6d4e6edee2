"""A check of one target from its text to its result."""
