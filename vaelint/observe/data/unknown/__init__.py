"""Files of which nothing but their use is known: made up as the code uses them, and otherwise where that does not do."""
