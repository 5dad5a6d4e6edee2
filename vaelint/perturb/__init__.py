"""Changes one constructor argument or input size at a time and finds the number in the code that stayed behind."""
