"""The posterior of some samples does not see their data.

## What it does
Gives every sample the data of another one, with the noise, the lengths and the masks as they were: each sample's draw must
move. Reported where it moves for some samples and stays the same to the last bit for others, or for all: a layer on the
way leaves nothing over, with these weights and with others.

## Why is this bad
Those samples share one posterior, whatever their data. Their reconstructions are one average, and their share of
the KL and of the likelihood teaches the model nothing.

## Example
    states, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
    last = states[:, -1]                                       # zeros for every sequence that is not the longest

## Use instead
    last = states[torch.arange(len(lengths)), lengths - 1]

## When to ignore
When a sample may have no data at all, and an input that vaelint does not take for a mask says so.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE117", "sample-unseen", Severity.ERROR, message="the posterior of some samples does not see their data", needs=("site",))
def check(model: Model) -> Findings:
    """The law on samples that are seen reports these, on the real run."""
    yield from ()
