"""Runs user code on fake tensors and records what it does."""
