"""How the loss of a model is sought where none was given."""
