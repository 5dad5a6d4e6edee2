"""Data sets of the Hugging Face hub, made up where it cannot be reached."""
