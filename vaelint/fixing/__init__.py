"""Edits of source text, and the check that each one holds."""
