"""The loss is not a scalar.

## What it does
Looks at the shape of the step's loss.

## Why is this bad
`backward()` refuses a loss with more than one element; summed or averaged later elsewhere, its scale is unknown.

## Formula
loss = (1/B) sum_i (rec_i + KL_i): one number.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, eq. 8; the PyTorch documentation,
torch.Tensor.backward.

## Example
    loss = F.mse_loss(recon, x, reduction="none") + kl
    loss = rec + kl            # both of shape (B)

## Use instead
    loss = F.mse_loss(recon, x, reduction="none").sum(1).mean() + kl

## When to ignore
When the training loop reduces it: name that step with --step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from torch import fx


@rule(
    "VAE420",
    "non-scalar-loss",
    Severity.ERROR,
    message="the loss is not a scalar",
    needs=("loss",),
    basis="shapes",
).on("kl.missing.unreduced")
def check(model: Model, unreduced: fx.Node | None) -> Findings:
    """Losses with dimensions of size above 1."""
    loss = model.record.loss
    if loss is not None and model.elements(loss) > 1:
        origin = unreduced or loss
        yield Found(
            model.where(origin),
            label=model.shape_text(origin),
            labels=model.labels((loss, f"the loss: {model.shape_text(loss)}")) if origin is not loss else (),
            shapes=(model.row(loss, "more than one element", "loss", wanted=()),),
            why="backward() needs a scalar",
            help="reduce it: sum over the dimensions of a sample, mean over the batch",
            claim=claims.Raises("backward() refuses the loss", node=loss),
        )
