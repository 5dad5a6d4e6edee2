"""What can be wrong, by family: detectors, the experiments that measure what they claim, and repairs."""
