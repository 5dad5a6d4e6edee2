"""Laws on products of experts."""
