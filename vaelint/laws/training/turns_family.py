"""All laws of training in turns."""

from vaelint.laws.training import (
    averages,
    counters,
    empty_steps,
    gradient_limits,
    held_parameters,
    modes,
    rates,
    schedules,
    shuffles,
    step_turns,
    still_counters,
    turns_against,
    warm_ups,
)

__all__ = [
    "averages",
    "counters",
    "empty_steps",
    "gradient_limits",
    "held_parameters",
    "modes",
    "rates",
    "schedules",
    "shuffles",
    "step_turns",
    "still_counters",
    "turns_against",
    "warm_ups",
]
