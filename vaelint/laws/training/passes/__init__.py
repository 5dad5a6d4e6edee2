"""Laws that the passes of one step show: what its losses are made of, and what becomes of their gradients."""
