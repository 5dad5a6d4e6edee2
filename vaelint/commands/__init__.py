"""One file a command: what it does, without how it is reached. `cli.py` registers them."""
