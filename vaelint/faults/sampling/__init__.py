"""How z is drawn."""
