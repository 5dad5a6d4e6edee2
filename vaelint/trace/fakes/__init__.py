"""Fake tensors made quickly: what an operation made is remembered, and what is small is run on ones."""
