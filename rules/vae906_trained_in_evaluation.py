"""A model goes on training in evaluation mode.

## What it does
In a step that trains and evaluates in turn (`fit`): after an evaluation, the layers that the gradient goes through are
all in evaluation mode, and before it they were all in training mode. The same in one step that evaluates first (a
preview) and trains then. Reported where they left it.

## Why is this bad
From the second epoch on there is no dropout, and batch normalisation uses statistics that no longer follow the
weights. Nothing raises, and the loss even looks better.

## Example
    model.train()
    for epoch in range(epochs):
        train(model)
        evaluate(model)  # calls model.eval()

## Use instead
    for epoch in range(epochs):
        model.train()
        train(model)
        evaluate(model)

## When to ignore
When all later epochs are to train without dropout on purpose.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE906", "trained-in-evaluation", Severity.WARNING, message="the model trains in evaluation mode", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on modes reports these."""
    yield from ()
