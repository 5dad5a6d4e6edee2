"""Shape annotations written into the user's signatures: from the shapes of a trace to text, and the run that holds it to its word."""
