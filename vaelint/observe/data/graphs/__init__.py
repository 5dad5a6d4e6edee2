"""PyTorch Geometric, as far as scripts that train graph autoencoders need it, where it is not installed."""
