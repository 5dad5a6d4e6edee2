"""What every experiment works with: the real run, ways to ask it more, and the verdict on a claim."""
