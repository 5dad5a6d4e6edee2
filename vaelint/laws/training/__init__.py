"""Laws that several turns of training show."""
