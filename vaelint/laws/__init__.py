"""Laws that every VAE keeps: each an intervention on a real run, a prediction, exemptions, and the place where it is broken."""
