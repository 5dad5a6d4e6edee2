"""An optimizer's step follows the opponent's loss as well.

## What it does
Where a critic and the network that is to fool it take turns: the gradient of one turn is still there in the other network's
parameters when its optimizer steps, because nothing was detached on the way and nothing cleared it in between.

## Why is this bad
The step follows two losses that contradict each other: decoder and encoder are moved to make the critic's task easier.
The adversarial term is cancelled, wholly or in part.

## Example
    critic_loss = loss_of(critic(real), critic(fake))
    critic_loss.backward(retain_graph=True)
    critic_optimizer.step()
    (reconstruction + fool(critic(fake))).backward()
    optimizer.step()

## Use instead
    critic_loss = loss_of(critic(real), critic(fake.detach()))

## When to ignore
When one step is meant to follow the sum of both losses.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE911", "opponent-moved", Severity.ERROR, message="a step follows the opponent's loss too", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on opponents reports these, on the real run."""
    yield from ()
