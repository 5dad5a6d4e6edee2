"""Laws of sequences: what is padding or masked is inert, and each step sees what is its own."""
