"""A suppression comment suppresses nothing.

## What it does
Looks at the comments `# vaelint: ignore[...]`, `# noqa: VAE...` and their forms for a whole file, in the code that the
target ran: reports those that name a rule that found nothing there, a rule that does not exist, or no rule.

## Why is this bad
A comment that outlives its reason hides the next bug on its line.

## Example
    kl = kl.sum(1).mean()  # vaelint: ignore[VAE401] the batch size never changes

## Use instead
    kl = kl.sum(1).mean()

## When to ignore
While the rule is switched on and off: `ignore = ["VAE008"]` in the configuration.
"""

from vaelint.rule import Findings, Model, setup_rule


@setup_rule("VAE008")
def check(model: Model) -> Findings:
    """Found after all rules have run: the front reports it."""
    yield from ()
