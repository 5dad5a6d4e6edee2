"""A term of the loss depends on trained values but has no gradient.

## What it does
Moves the draw of a real run: an addend of the loss whose value follows, and which has no gradient, is reported where
its gradient ends: at a `detach()`, or where `no_grad` begins. A value that is also in the loss with its gradient is
not reported. Log-sum-exps that have no gradient together are reported too (the law `log-sums-pull`).

## Why is this bad
It shifts the value of the loss and trains nothing. The model trains as if the term were missing, while the loss curve
includes it.

## Example
    with torch.no_grad():
        target, made = self.features(x), self.features(recon)
    loss = loss + (made - target).pow(2).mean()

## Use instead
    with torch.no_grad():
        target = self.features(x)
    loss = loss + (self.features(recon) - target).pow(2).mean()

## When to ignore
When the term is added for its value alone, so that a logged loss is complete.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE509", "term-without-gradient", Severity.WARNING, message="a term of the loss has no gradient", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on addends reports these, on the real run."""
    yield from ()
