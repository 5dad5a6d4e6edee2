"""The configuration file and what is in force."""
