"""One renderer a format. Each turns results into text, and imports neither torch nor a rule."""
