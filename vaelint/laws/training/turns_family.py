"""All laws of training in turns."""

from vaelint.laws.training import averages, counters, empty_steps, modes, step_turns

__all__ = ["averages", "counters", "empty_steps", "modes", "step_turns"]
