"""A float64 array of numpy turns the model's values into float64.

## What it does
Reports where float32 values of the model meet a tensor that is float64 only because numpy's numbers are
(`torch.from_numpy`, `torch.tensor(array)`, a buffer made so), with no `dtype=` and no `.double()` that asks for it.

## Why is this bad
All that follows, the loss included, is computed in float64: up to 64 times slower on a GPU, twice the memory, refused
by other accelerators, and the next layer that such a value reaches raises.

## Example
    mask = torch.from_numpy(np.ones(784))
    rec = ((recon - x) ** 2 * mask).sum(1)

## Use instead
    mask = torch.from_numpy(np.ones(784, dtype=np.float32))

## When to ignore
When double precision is intended; then say so: `.double()`, or `dtype=torch.float64`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.numerics.dtypes import Mixed


@rule(
    "VAE605",
    "float64-creep",
    Severity.WARNING,
    message="a float64 array turns the model's values into float64",
    basis="shapes",
).on("numerics.dtypes.creeping")
def check(model: Model, creeping: list[Mixed]) -> Findings:
    """Each such array."""
    for mixed in creeping:
        yield Found(
            mixed.begun or model.where(mixed.node),
            label="float64, numpy's default",
            labels=model.labels((mixed.node, f"meets {model.written(mixed.partner)}, which is {mixed.own_type}")),
            why="everything after it is computed in float64",
            help=".float(), or dtype=torch.float32 where the tensor is made",
            claim=claims.DtypeIs("the result is float64", node=mixed.node, dtype="float64"),
        )
