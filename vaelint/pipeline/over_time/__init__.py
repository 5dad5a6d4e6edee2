"""What moves as training goes on: the weight of the KL, curves, and the loss when a warm-up has come to its end."""
