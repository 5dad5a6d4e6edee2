"""Shapes that go together and mean another thing than was meant."""
