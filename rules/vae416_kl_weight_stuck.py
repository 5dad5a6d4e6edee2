"""The KL weight never moves.

## What it does
Runs the step many times when the KL's weight is an attribute that the step itself changes, and looks whether it
leaves its start.

## Why is this bad
An annealed weight that is reset at every step, or divides whole numbers, stays at 0: a plain autoencoder that looks
like a VAE with warm-up.

## Formula
loss = -E_q[log p(x|z)] + beta(t) KL, with beta(t) rising from 0 to 1.

Source: Bowman et al. 2016, Generating Sentences from a Continuous Space, section 3.1; Fu et al. 2019, Cyclical
Annealing Schedule, section 3.

## Example
    self.kl_weight = min(1.0, self.kl_weight + self.rate)
    if self.epoch % self.cycle == 0: self.kl_weight = 0.0      # true at every step of the epoch

## Use instead
    if self.step % self.cycle == 0: self.kl_weight = 0.0

## When to ignore
When the weight is advanced elsewhere, by a callback.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.rule import Findings, Found, Model, Severity, claims, rule

if TYPE_CHECKING:
    from vaelint.faults.schedule.schedule import StuckWeight


@rule(
    "VAE416",
    "kl-weight-stuck",
    Severity.WARNING,
    message="the KL weight does not move",
    needs=("loss",),
).on("schedule.weights.stuck_weights")
def check(model: Model, stuck_weights: list[StuckWeight]) -> Findings:
    """Schedules that run in the step and have no effect."""
    for stuck in stuck_weights:
        yield Found(
            stuck.span,
            label=f"{stuck.name} is {stuck.value:.3g} again after {stuck.steps} steps"
            if not stuck.dropped
            else f"the next {stuck.name} is computed here and not kept",
            labels=(stuck.label,) if stuck.label is not None else (),
            why=f"the schedule {'stays where it is' if stuck.dropped else 'is undone'} at every step: the KL never gets its full weight",
            help=f"write it back: self.{stuck.name} += 1"
            if stuck.dropped
            else "advance the schedule by a counter that moves, and reset it only at the end of a cycle",
            claim=claims.WeightStays("the weight is the same after many steps", name=stuck.name),
        )
