"""A loss is computed for each part of a batch, and only the last part's is differentiated.

## What it does
Where a step computes one loss several times before it steps, as for micro-batches: looks which samples move a loss that
`backward()` is called on. Samples that move such a loss only where it is never differentiated are reported, at the
`backward()` that they miss.

## Why is this bad
The step is named and weighed as one over the whole batch, and follows a part of it: the gradient is noisier, and too
small by the number of parts where each loss was divided by it. The total that is logged is that of all parts, and looks right.

## Example
    for part in batch.chunk(parts):
        loss = bound(model, part) / parts
        total += loss.detach()
    loss.backward()

## Use instead
    for part in batch.chunk(parts):
        loss = bound(model, part) / parts
        loss.backward()
        total += loss.detach()

## When to ignore
When the other parts are evaluated only. Evaluate them under `torch.no_grad()`, which also says so.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule(
    "VAE929",
    "part-not-differentiated",
    Severity.WARNING,
    message="the loss of a part of the batch is never differentiated",
    needs=("loss",),
)
def check(model: Model) -> Findings:
    """The law on what is differentiated reports these, on the real run."""
    yield from ()
