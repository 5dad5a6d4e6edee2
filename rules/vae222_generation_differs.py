"""The method that generates draws or decodes differently from training.

## What it does
Calls the model's own method that draws and decodes, with weights moved away from their first values. The draws must have
the mean and the spread at which the KL is least, and what the decoder's last layer puts out must come through the same
bound as in training. Where the method draws the data with a scale of its own for each element, the likelihood's variance
must be the square of that scale. What is joined with a condition must be joined in the same order. Where the KL has a prior
that is learned (of a condition, a mixture, pseudo-inputs), what is generated must start from that one. Where the step scales
the data with numbers that the model keeps, what the method gives back with them must be in the units of the data.

## Why is this bad
The loss is right and samples look wrong: the decoder gets values that it was never trained on, or the samples are on
another scale than the data.

## Example
    def sample(self, n):
        z = torch.rand(n, self.latent)
        return self.decoder(z)  # in training: torch.sigmoid(self.decoder(z))

## Use instead
    def sample(self, n):
        z = torch.randn(n, self.latent)
        return torch.sigmoid(self.decoder(z))

## When to ignore
When the method is to give scores, or to draw from elsewhere on purpose.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE222", "generation-differs", Severity.WARNING, message="generation differs from training", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on generation reports these, on the real run."""
    yield from ()
