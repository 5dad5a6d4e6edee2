"""What several formats are put together from."""
