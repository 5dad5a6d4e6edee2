"""The learning signal of a score function has a gradient.

## What it does
Looks for products of log q(z), of a draw that lets no gradient through, and a signal that was decoded from the draw. Reported is a signal
that a gradient of the loss reaches, on the real run.

## Why is this bad
The score-function estimator needs the signal's value only. With its gradient, decoder and encoder follow E[log q grad f] as well, which
belongs to no bound.

## Formula
grad E_q[f] = E_q[grad f + (f - baseline) grad log q]: no gradient is taken of the signal that weighs log q.

Source: Mnih & Gregor 2014, Neural variational inference and learning in belief networks, eq. 6.

## Example
    signal = cost - baseline
    loss = (cost + signal * log_q).mean()

## Use instead
    signal = (cost - baseline).detach()

## When to ignore
When the product is a loss of its own, and not there for its gradient.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE443", "live-signal", Severity.ERROR, message="the signal of a score function has a gradient of its own", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on signals reports these, on the real run."""
    yield from ()
