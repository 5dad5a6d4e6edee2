"""Laws on what the decoder is given, in training and where the model generates."""
