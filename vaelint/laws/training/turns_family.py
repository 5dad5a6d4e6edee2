"""All laws of training in turns."""

from vaelint.laws.training import averages, counters, modes, step_turns

__all__ = ["averages", "counters", "modes", "step_turns"]
