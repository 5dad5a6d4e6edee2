"""All laws of training in turns."""

from vaelint.laws.training import (
    averages,
    code_means,
    counters,
    empty_steps,
    gradient_limits,
    held_parameters,
    modes,
    own_averages,
    rates,
    schedules,
    shuffles,
    step_turns,
    still_counters,
    turns_against,
    used_parameters,
    warm_ups,
)

__all__ = [
    "averages",
    "code_means",
    "counters",
    "empty_steps",
    "gradient_limits",
    "held_parameters",
    "modes",
    "own_averages",
    "rates",
    "schedules",
    "shuffles",
    "step_turns",
    "still_counters",
    "turns_against",
    "used_parameters",
    "warm_ups",
]
