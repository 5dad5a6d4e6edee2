"""Rules of ACME for vaelint: one a module."""
