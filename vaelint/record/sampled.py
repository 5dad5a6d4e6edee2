"""Of which sample site of a probabilistic program a recorded value is the log-density."""

from __future__ import annotations

from vaelint.late import dataclass


@dataclass(frozen=True)
class Sampled:
    """One sample site, as the guide or the model has it; nodes of its log-density hold it in `meta["sampled"]`."""

    name: str
    law: str  # the distribution's name; of a divergence in closed form, those of posterior and prior
    observed: bool
    summed: bool  # all of its values are gone through instead of one drawn
    of_guide: bool
    plates: tuple[str, ...]
    rows: int  # of its plates together: how many densities there are for one value each
    particle: int = 0  # which of the draws that a bound is an average over
    masked: bool = False  # some of its rows are left out
    moves: bool = True  # a gradient goes through the draw; else the score function trains it
    draws: int = 1  # that are made at once, of which a bound is an average
    divergence: bool = False  # the KL of guide and model in closed form, not a density
