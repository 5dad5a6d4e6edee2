"""The reconstruction term: its target, its likelihood, its weight."""
