"""What the user wrote, at a span."""
