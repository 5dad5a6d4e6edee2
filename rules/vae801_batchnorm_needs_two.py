"""BatchNorm in training needs more than one value for each channel.

## What it does
Runs the step on a batch of one in training mode, and says where BatchNorm raises: on `(B, C)` there is a single value
for each channel then.

## Why is this bad
The last batch of an epoch can hold one sample: 60001 samples in batches of 100. Training then stops at its very end.

## Example
    self.norm = nn.BatchNorm1d(64)
    loader = DataLoader(data, batch_size=100)

## Use instead
    self.norm = nn.LayerNorm(64)            # or DataLoader(..., drop_last=True)

## When to ignore
With `drop_last=True`, or a number of samples that never leaves a batch of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Label, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.batch.single import NeedsTwo


@rule(
    "VAE801",
    "batchnorm-needs-two",
    Severity.INFO,
    message="BatchNorm cannot train on a batch of one",
    basis="shapes",
).on("batch.single.needs_two")
def check(model: Model, needs_two: list[NeedsTwo]) -> Findings:
    """The first BatchNorm that raises."""
    for norm in needs_two:
        yield Found(
            norm.made or norm.called,
            label=f"{norm.path}: one value for each channel at B = 1",
            labels=(Label(norm.called, "raises here"),) if norm.called and norm.made else (),
            when="B = 1, in training",
            why="a last batch of one sample ends the epoch with an error",
            help="drop_last=True in the DataLoader, or a normalisation that does not use the batch",
            claim=claims.RerunBatch("at B = 1 the step raises", size=1),
        )
