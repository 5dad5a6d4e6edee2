"""A limit on the gradients finds none.

## What it does
Runs the step with its optimizers and notes which gradients `clip_grad_norm_` and its relatives find. Reported is a limit that finds no
gradient which a step is still to use, though the same step computes these gradients and its optimizer uses them; and a step's only
limit, where it is given no parameters or only those of another model.

## Why is this bad
Nothing is limited: one bad batch moves the weights as far as its gradients say, and the run that was to be stable is not. Nothing
raises, as parameters without gradients are left out.

## Example
    optimizer.zero_grad()
    clip_grad_norm_(model.parameters(), 1.0)
    loss.backward()
    optimizer.step()

## Use instead
    optimizer.zero_grad()
    loss.backward()
    clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()

## When to ignore
When the limit is only called for the norm that it returns.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE914", "limit-without-effect", Severity.WARNING, message="a limit on the gradients finds none", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on limits reports these, on the real run."""
    yield from ()
