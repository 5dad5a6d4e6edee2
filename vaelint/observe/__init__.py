"""The user's own training, watched: a script runs as Python runs it, and two of its iterations are recorded and checked."""
