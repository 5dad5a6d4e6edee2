"""The data are overwritten before the reconstruction is held to them.

## What it does
On the real run, compares each input, where the reconstruction is held to it, with what the step was handed. Reported is
a draw (a mask, noise) that is written in place into a second name of the data, in a function that reads the first name
later.

## Why is this bad
`noisy = x` does not copy. What is written into `noisy` is written into `x`: the denoising model is trained to reproduce the corruption, and
the caller's batch is corrupted too. The loss falls as it should.

## Formula
log p(x | z) of the clean x, with z drawn from q(z | noisy x).

Source: Im et al. 2017, Denoising Criterion for Variational Auto-Encoding Framework, eq. 7.

## Example
    noisy = x
    noisy[torch.rand_like(x) < 0.3] = 0
    recon = self.decode(self.encode(noisy))
    rec = F.mse_loss(recon, x)

## Use instead
    noisy = x.clone()
    noisy[torch.rand_like(x) < 0.3] = 0

## When to ignore
When the corrupted data are what shall be reconstructed.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE335", "batch-overwritten", Severity.ERROR, message="the data are overwritten before they are compared with", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on batches reports these, on the real run."""
    yield from ()
