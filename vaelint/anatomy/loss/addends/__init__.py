"""What is special about a single addend of a term: how it was reduced, what masks it, what a condition chooses of it."""
