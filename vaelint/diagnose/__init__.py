"""User code that raised: which operation, on which shapes, and what would fit."""
