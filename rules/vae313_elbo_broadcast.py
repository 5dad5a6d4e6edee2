"""Terms of the loss are broadcast against each other.

## What it does
Finds sums and products on the way up to the loss whose result has the batch dimension twice: (B) with (B, 1). And a KL of
one number a sample that is added to a reconstruction of one number a data element: (B, D) with (B, 1).

## Why is this bad
keepdim leaves (B, 1); times weights of shape (B) it becomes (B, B), and its mean gives every sample the mean weight:
the weights have no effect. A KL that is added to every data element counts D times when these are summed.

## Formula
loss = (1/B) sum_i w_i (rec_i + KL_i): sample i meets its own weight.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, eq. 8; broadcasting: the PyTorch documentation,
Broadcasting semantics.

## Example
    kl = kl_elements.sum(dim=1, keepdim=True)    # (B, 1)
    loss = (w * kl).mean()                        # w: (B)

## Use instead
    kl = kl_elements.sum(dim=1)                   # (B)
    loss = (w * kl).mean()

## When to ignore
When all pairs are meant: give both the same number of dimensions. A weight with a name on the KL makes the second
kind a note.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import fx

    from vaelint.faults.kl.scale_verdicts import ScaleFault


@rule(
    "VAE313",
    "elbo-broadcast",
    Severity.ERROR,
    message="terms of the loss are broadcast against each other",
    needs=("loss",),
    basis="shapes",
).on("likelihood.likelihood.crossed_terms", "kl.imbalance.off_balance")
def check(model: Model, crossed_terms: list[fx.Node], off_balance: Callable[[ScaleFault], Iterator[Found]]) -> Findings:
    """Sums and products of (B) with (B, 1), and of (B, D) with (B, 1), among the terms of the loss."""
    for node in crossed_terms:
        parts = [n for n in node.all_input_nodes if model.dims(n)]
        yield Found(
            model.where(node),
            label=f"{' and '.join(model.shape_text(n) for n in parts)} give {model.shape_text(node)}",
            labels=model.labels(*((n, "") for n in parts)),
            shapes=(*(model.row(n) for n in parts), model.row(node, "B * B numbers; B were meant", wanted=("B",))),
            when="B > 1",
            why="every sample's term meets every other sample's: weights average out, sums count B times",
            help="drop keepdim, or squeeze the one that has it",
            repair=repairs.DropOnes(node=node),
            claim=claims.BroadcastShape("the result has B * B elements", nodes=[node, *parts]),
        )
    yield from off_balance("spread")
