"""A network that is kept to teach another one is that network.

## What it does
Runs the step with its optimizers. Reported is an attribute that was bound to the network in training, whose answers, computed without a
gradient, the loss learns from, while the step moves the parameters behind it.

## Why is this bad
`self.teacher = self.student` makes a second name and no second network. Replayed data, distilled targets and old posteriors come from the
weights of this very step: nothing that was learned before is kept.

## Example
    self.teacher = self.student
    ...
    with torch.no_grad():
        old = self.teacher.sample(n)

## Use instead
    self.teacher = copy.deepcopy(self.student)

## When to ignore
When the network is to learn from what it says now, and the second name is there for another reason.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE923", "teacher-of-itself", Severity.WARNING, message="a network that is to teach another one is that network", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on teachers reports these, on the real run."""
    yield from ()
