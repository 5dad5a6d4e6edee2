"""The record of a traced step, and the ways through it."""
