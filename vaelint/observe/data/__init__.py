"""Data that a watched script asks for and that is not there: made up, with the public shapes, types and ranges."""
