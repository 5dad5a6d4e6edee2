"""The command line: one file a command, its options, and how they are reached."""
