"""One layer is at every place of a stack.

## What it does
Looks for containers whose places are all the same module, with weights, made inside of the list that was repeated.
Where the module was made and named before, the finding is a remark.

## Why is this bad
`[Layer()] * n` repeats the module, not its constructor. A stack of n layers has the parameters of one, and each gradient
step moves them for all places at once. Nothing raises.

## Example
    self.blocks = nn.ModuleList([Block(width)] * 4)

## Use instead
    self.blocks = nn.ModuleList([Block(width) for _ in range(4)])

## When to ignore
When the places share their weights on purpose.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE514", "layer-repeated", Severity.WARNING, message="one layer is in several places", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on places of a stack reports these."""
    yield from ()
