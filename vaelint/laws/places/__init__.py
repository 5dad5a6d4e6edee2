"""Laws of places: what enters at one comes back there."""
