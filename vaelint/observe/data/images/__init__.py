"""Images: those of folders, and what opens them."""
