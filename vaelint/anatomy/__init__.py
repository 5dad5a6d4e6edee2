"""Reads the record: sampling sites, posterior heads, loss terms and what each weighs."""
