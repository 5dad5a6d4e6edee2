"""Where an iteration ends, and what it is given."""
