"""The training step: told, or found in the user's own code."""
