"""Laws of what a step keeps for later ones: moving averages, means of codes, spreads of the data."""
