"""What a repository's own code says of values: read from its files, nothing of it run."""
