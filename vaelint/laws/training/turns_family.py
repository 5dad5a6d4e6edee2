"""All laws of training in turns."""

from vaelint.laws.training import averages, counters, empty_steps, modes, schedules, step_turns, turns_against

__all__ = ["averages", "counters", "empty_steps", "modes", "schedules", "step_turns", "turns_against"]
