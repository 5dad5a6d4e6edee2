"""Types of numbers, overflow, and values at the edge of a function's domain."""
