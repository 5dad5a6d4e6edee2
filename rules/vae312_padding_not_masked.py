"""The token loss counts padding.

## What it does
Finds models that handle padding, by the padding index of an embedding, a mask that hides tokens from the encoder's
attention, or the lengths that a sequence is packed with, while the cross-entropy over the same tokens has no
`ignore_index`, mask or weight.

## Why is this bad
Most of a padded batch is padding: the decoder is rewarded for it, the reconstruction term is diluted, and the KL is
weighed against a length that is not the sentence's.

## Formula
-log p(x_1..x_n|z) = -sum_{t <= n} log p(x_t | x_<t, z), with n the length of the sentence, not of the padded row.

Source: Bowman et al. 2016, Generating Sentences from a Continuous Space, section 3.

## Example
    self.emb = nn.Embedding(vocab, 64, padding_idx=0)
    loss = F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="sum")

## Use instead
    loss = F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="sum", ignore_index=0)

## When to ignore
When the padding symbol is also the end of the sentence and must be learned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from vaelint.anatomy.loss.facts import ReconFact
    from vaelint.faults.likelihood.padding import Padding


@rule(
    "VAE312",
    "padding-not-masked",
    Severity.WARNING,
    message="the token loss counts padding",
    needs=("reconstruction",),
).on("likelihood.padding.padded")
def check(model: Model, padded: Callable[[ReconFact], Padding | None]) -> Findings:
    """Cross-entropies that ignore the model's padding index."""
    for fact in model.recons:
        padding = padded(fact)
        if padding is None:
            continue
        yield Found(
            model.where(fact.pair.meet),
            label="no ignore_index, no mask",
            labels=model.labels((padding.node, padding.says)),
            why="the loss is spent on padding, and a batch of short sentences weighs as much as one of long ones",
            help="give the loss ignore_index, or multiply by a mask before the sum",
            repair=repairs.IgnorePadding(meet=fact.pair.meet, padding=padding),
            claim=claims.PaddingCounts("a change of the logits at padding changes the loss", fact=fact, padding=padding),
        )
