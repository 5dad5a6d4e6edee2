"""Parameters that no gradient, no layer list or no optimizer reaches."""
