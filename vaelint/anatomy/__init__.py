"""What the model is: its posterior, its reconstruction, its KL, its loss."""
