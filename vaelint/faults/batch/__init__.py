"""Samples of a batch that do not stay apart."""
