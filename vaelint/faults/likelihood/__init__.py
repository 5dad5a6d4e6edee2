"""Reconstruction, target and likelihood that do not go together."""
