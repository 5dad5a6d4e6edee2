"""The catalogue: one file a rule, found through the entry point group `vaelint.rules`."""
