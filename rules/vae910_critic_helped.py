"""A network that is to fool a critic is trained to help it.

## What it does
Where two networks take turns on one loss: the critic's own loss says which of its outputs it wants for the samples of the
other network, and which for the other class. The other network's loss falls where the critic has it right.

## Why is this bad
Both pull in one direction: the critic's task gets easier with every step, and the codes or images move away from what they
are to resemble. The adversarial term does the opposite of what it was added for.

## Example
    adversarial = F.binary_cross_entropy_with_logits(critic(z), zeros)
    critic_loss = F.binary_cross_entropy_with_logits(critic(z.detach()), zeros) + F.binary_cross_entropy_with_logits(critic(prior), ones)

## Use instead
    adversarial = F.binary_cross_entropy_with_logits(critic(z), ones)

## When to ignore
When both networks are meant to agree.
"""

from vaelint.rule import Findings, Model, Severity, rule


@rule("VAE910", "critic-helped", Severity.ERROR, message="this term helps the critic that it is to fool", needs=("loss",))
def check(model: Model) -> Findings:
    """The law on opponents reports these, on the real run."""
    yield from ()
