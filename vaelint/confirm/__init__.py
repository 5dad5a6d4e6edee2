"""The real pass: forward, loss, backward, and experiments that measure what the rules claim."""
