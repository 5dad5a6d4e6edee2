"""Two parts of the batch are used as two quantities.

## What it does
Reports `chunk`, `split`, `unbind` or a slice along the batch axis whose parts are then put together element by
element on the way to z or to the reconstruction, as in `mu, logvar = h.chunk(2)`: `chunk` splits along axis 0 by default.

## Why is this bad
Half of the samples are read as means and the other half as log-variances. The batch is halved on the way, and a later
broadcast or `view` may hide it.

## Example
    mu, logvar = torch.chunk(self.encoder(x), 2)

## Use instead
    mu, logvar = torch.chunk(self.encoder(x), 2, dim=1)

## When to ignore
When the batch holds two halves on purpose, such as pairs of views of the same samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from vaelint.faults.batch.mixing import Mixing


@rule("VAE107", "batch-split", Severity.ERROR, message="two parts of the batch are used as two quantities").on("batch.mixing.split")
def check(model: Model, split: list[Mixing]) -> Findings:
    """Each split along the batch whose parts meet again."""
    for found in split:
        yield Found(
            model.where(found.cause),
            label=f"splits the batch of {model.shape_text(found.source)}",
            labels=model.labels((found.source, ""), (found.node, "parts of different samples meet here")),
            shapes=(model.row(found.source),),
            why="one half of the samples is read as the mean, the other half as the log-variance",
            help="split along the features: dim=1, or dim=-1",
            repair=repairs.SplitFeatures(cause=found.cause, source=found.source),
            claim=claims.PoisonRow("changing one sample changes the values of others", node=found.node),
        )
