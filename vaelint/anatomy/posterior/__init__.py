"""The posterior: where it is drawn from, how its parameters are read, what the noise is."""
