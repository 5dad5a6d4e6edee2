"""Values of different samples get mixed.

## What it does
Follows, entry by entry, which sample of the batch a value belongs to, from the input to the posterior and the
reconstruction. Reports the `view`, `reshape` or transposition after which one row holds parts of several samples,
when a later operation then brings them together; and an image with channels that is flattened with `view(-1, H*W)`,
so that each channel becomes a sample of its own down to z. Also reports, as a warning, data that is scaled or shifted
by a statistic of the whole batch (`x / x.max()`), in evaluation mode too; and a loss that compares the output for one
sample with another sample: one side was repeated with `repeat`, the other with `repeat_interleave`; and rows of one input that
the step shuffles, while the labels, masks or lengths of the same samples stay where they were.

## Why is this bad
`view` moves nothing: it only reads the same memory with another shape. `(2, B, H).view(B, 2*H)` gives sample 0
the forward state of samples 0 and 1. PyTorch says nothing, the shapes are right, and the model trains poorly.

## Example
    _, h = self.gru(x)                     # (2, B, H)
    h = h.view(x.size(0), 2 * self.hidden)

## Use instead
    h = h.transpose(0, 1).reshape(x.size(0), 2 * self.hidden)

## When to ignore
When samples are meant to be mixed, as in a layer that works on the whole batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from vaelint.faults.batch.batch_statistics import Scaled
    from vaelint.faults.batch.mixing import Mixing


@rule(
    "VAE103",
    "batch-mixed",
    Severity.ERROR,
    message="values of different samples get mixed",
).on("batch.mixing.mixed", "batch.batch_statistics.batch_scaled")
def check(model: Model, mixed: list[Mixing], batch_scaled: list[Scaled]) -> Findings:
    """Each operation that cuts samples apart."""
    for found in mixed:
        cause, meets = found.cause, found.node
        channels = cause is meets and model.op(cause) in ("view", "reshape")
        repeated = model.op(cause) in ("repeat", "tile", "repeat_interleave")
        why = (
            "the reconstruction of one sample is compared with another sample: the copies on the two sides are in different orders"
            if repeated
            else "each channel of an image becomes a sample with its own z"
            if channels
            else "each row then holds values of several samples, which are summed as if they were one"
        )
        remark = "rows are no longer samples"
        yield Found(
            model.where(cause),
            label=f"{model.shape_text(found.source)} becomes {model.shape_text(cause)}",
            labels=model.labels((found.source, ""), (None if meets is cause else meets, "samples meet here")),
            shapes=(model.row(found.source), model.row(cause, remark)),
            when="B > 1",
            why=why,
            help="repeat both alike: repeat_interleave(k, 0) puts the copies of a sample side by side, repeat(k, 1) repeats the batch"
            if repeated
            else "move the batch axis first (transpose, permute), then reshape; flatten(1) keeps samples apart",
            repair=repairs.BatchToFront(cause=cause, source=found.source),
            claim=claims.PoisonRow("changing one sample changes the values of others", node=meets if not channels else cause),
        )
    for scaled in batch_scaled:
        yield Found(
            model.where(scaled.statistic),
            label=f"taken over the samples of {model.shape_text(scaled.source)}",
            labels=model.labels((scaled.node, "every sample is changed by it here")),
            shapes=(model.row(scaled.source), model.row(scaled.statistic, "one for several samples")),
            when="B > 1",
            why="the code of a sample depends on the other samples in its batch and on their number, in evaluation mode too",
            help="take the statistic of each sample (dim=1, keepdim=True), or one constant of the training data; or use a BatchNorm layer",
            severity=Severity.WARNING,
            claim=claims.PoisonRow("changing one sample changes the values of others", node=scaled.node, stretch=4.0),
        )
