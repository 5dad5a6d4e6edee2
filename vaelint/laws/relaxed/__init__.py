"""Relaxed draws, and straight-through values."""
