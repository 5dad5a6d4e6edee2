"""The way of the data from input to loss, step by step."""
