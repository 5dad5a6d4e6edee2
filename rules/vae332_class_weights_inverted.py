"""The class weights favour the frequent class.

## What it does
Puts other data into the run, with more ones than before, and holds the reconstruction. Without weights a class pulls
in proportion to how often it occurs, with weights by inverse frequency all classes pull alike; here the pull grows
faster than the class.

## Why is this bad
Predicting the frequent class everywhere costs next to nothing, and that is what the decoder learns.

## Formula
-w log p for x = 1 and -log(1 - p) for x = 0, with w = negatives / positives.

Source: the PyTorch documentation of torch.nn.BCEWithLogitsLoss (pos_weight); Kipf & Welling 2016, Variational Graph
Auto-Encoders, section 2, re-weights the terms of sparse adjacency matrices in this way.

## Example
    pos_weight = adj.sum() / (n * n - adj.sum())

## Use instead
    pos_weight = (n * n - adj.sum()) / adj.sum()

## When to ignore
When the frequent class is to count more on purpose.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule(
    "VAE332",
    "class-weights-inverted",
    Severity.WARNING,
    message="class weights favour the frequent class",
    needs=("reconstruction",),
)
def check(model: Model) -> Findings:
    """The law on class weights reports these, on the real run."""
    yield from ()
