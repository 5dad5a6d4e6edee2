"""The batch is read as time.

## What it does
Finds a recurrent layer or an attention layer that is given the batch where it expects time: `nn.LSTM`, `nn.GRU`,
`nn.RNN`, `nn.MultiheadAttention` and the Transformer layers expect `(T, B, F)` unless they are made with
`batch_first=True`. Also a state taken with `out[-1]` from a `(B, T, H)` output: that is the last sample, not the last
step.

## Why is this bad
The recurrence runs over the samples of the batch: each one sees those before it, and none sees its own past. The
shapes fit, so PyTorch says nothing.

## Example
    self.rnn = nn.LSTM(features, hidden)
    states, _ = self.rnn(x)                # x: (B, T, F)

## Use instead
    self.rnn = nn.LSTM(features, hidden, batch_first=True)

## When to ignore
When the first size of the input is the time axis: name the batch in `--input`, as in `20@T x 32@B x 5`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Label, Model, Severity, claims, repairs, rule

if TYPE_CHECKING:
    from vaelint.faults.batch.mixing import Mixing


@rule("VAE104", "batch-read-as-time", Severity.ERROR, message="the batch is read as time").on("batch.mixing.read_as_time")
def check(model: Model, read_as_time: list[Mixing]) -> Findings:
    """Each layer that runs over the samples."""
    for found in read_as_time:
        called, made = model.where(found.node), model.birth_of(found.node)
        recurrent = made is not None and found.cause is found.node and model.op(found.node) not in ("getitem", "select")
        primary, other = (made, called) if recurrent else (called, None)
        yield Found(
            primary,
            label="made without batch_first=True" if recurrent else "the last sample of the batch, not the last step",
            labels=((Label(other, f"gets {model.shape_text(found.source)}, the batch on its time axis"),) if other else ())
            + model.labels((found.source, "")),
            shapes=(model.row(found.source, "B is where the layer expects T"),),
            when="B > 1",
            why="the layer runs over the samples of the batch: each is encoded from those before it",
            help="make the layer with batch_first=True, or transpose its input to (T, B, F)"
            if recurrent
            else "take the last step with [:, -1]",
            repair=repairs.BatchFirst(made=made if recurrent else None, called=None if recurrent else called),
            claim=claims.PoisonRow("changing one sample changes the values of others", node=found.node),
        )
