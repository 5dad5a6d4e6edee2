"""Reconstruction and target have different shapes and broadcast.

## What it does
Compares the symbolic shapes where the reconstruction meets its target, lined up from the right. One extra leading
axis of samples (importance-weighted bounds) is fine.

## Why is this bad
A dimension of size 1 against a real one is stretched: (B, 1, D) against (B, D) compares every reconstruction with
every input, B * B pairs. The loss is then smallest when every output is the mean of the batch. `mse_loss` warns once
per line, `((r - x) ** 2).mean()` never does.

## Formula
-log p(x|r) = sum_d l(r_d, x_d): the element d of the reconstruction meets the element d of the data, and no other.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, eq. 7 and appendix C; broadcasting: the PyTorch
documentation, Broadcasting semantics.

## Example
    recon = self.decoder(z).unsqueeze(1)      # (B, 1, D)
    loss = F.mse_loss(recon, x)               # x: (B, D)

## Use instead
    recon = self.decoder(z)                   # (B, D)
    loss = F.mse_loss(recon, x)

## When to ignore
When several predictions share one target: give them a leading axis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from vaelint.anatomy.loss.facts import ReconFact


@rule(
    "VAE301",
    "crossed-broadcast",
    Severity.ERROR,
    message="reconstruction and target have different shapes and broadcast",
    needs=("reconstruction",),
    basis="shapes",
).on("likelihood.likelihood.broadcast")
def check(model: Model, broadcast: Callable[[ReconFact], str | None]) -> Findings:
    """Pairs whose shapes agree only by broadcasting."""
    for fact in model.recons:
        how = broadcast(fact)
        pair = fact.pair
        if how is None or pair.target is None:
            continue
        yield Found(
            model.where(pair.meet),
            label=f"{model.shape_text(pair.recon)} against {model.shape_text(pair.target)}",
            labels=model.labels(
                (pair.recon, f"{model.written(pair.recon)}: {model.shape_text(pair.recon)} is made here"),
                (pair.target, f"{model.written(pair.target)}: {model.shape_text(pair.target)}"),
            ),
            shapes=(
                model.row(pair.recon, "", "recon", wanted=pair.target),
                model.row(pair.target, f"lined up from the right: {how}", "target"),
            ),
            when="any size above 1 in the stretched dimension",
            why="the loss compares pairs that do not belong together, and is smallest when every output is their mean",
            help="give the reconstruction the shape of the target before the loss",
            repair=repairs.SameShape(meet=pair.meet, recon=pair.recon, target=pair.target),
            claim=claims.BroadcastShape("the shapes differ", nodes=[pair.recon, pair.target]),
        )
