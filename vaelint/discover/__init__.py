"""Finds the VAEs of a repository by what their code does, and how each can be called."""
