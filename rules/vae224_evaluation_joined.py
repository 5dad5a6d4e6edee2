"""In evaluation mode the samples of a batch are joined before the decoder.

## What it does
Runs the step in evaluation mode as well, where the code asks for the mode. The layers of the decoder must have a row for each sample
there, too, one or several. What depends on no data, as images that are generated for a look, is not asked.

## Why is this bad
One reconstruction stands for the whole batch. A loss of means broadcasts it against all samples and raises nothing: validation,
the choice of the best weights, and early stopping go by the error of an average.

## Example
    z = mu + std * torch.randn_like(std) if self.training else mu.mean(0)

## Use instead
    z = mu + std * torch.randn_like(std) if self.training else mu

## When to ignore
When evaluation is meant to decode one code for all samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, rule

if TYPE_CHECKING:
    from vaelint.faults.sampling.evaluation import LostRows


@rule(
    "VAE224",
    "evaluation-joined",
    Severity.ERROR,
    message="evaluation mode decodes one code for the whole batch",
    needs=("gaussian",),
    basis="shapes",
).on("sampling.evaluation.lost_rows")
def check(model: Model, lost_rows: LostRows | None) -> Findings:
    """The rows are lost on the way to the decoder."""
    if lost_rows is not None:
        decoded, expected = (str(tuple(lost_rows.evaluated)), f"({', '.join(lost_rows.trained)})")
        yield Found(
            model.where(lost_rows.place),
            label="joins the samples in evaluation mode",
            why=f"the decoder puts out {decoded} for a batch of {lost_rows.batch} there, and {expected} in training",
            help="reduce over the latents or the draws, not over the batch; in evaluation mode decode mu",
        )
