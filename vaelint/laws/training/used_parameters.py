"""Law B1, for loops over parameters: each finds the parameters that it is to work on.

Observed on the step as it runs: what `parameters()` gives can be gone through once. Kept in a variable and gone through again, by a loop or
by a function that limits, freezes or initialises, it has none left, and nothing is done.
"""

from __future__ import annotations

from collections.abc import Iterator

from vaelint.core.finding import Label
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.rule import Found


@law("loops-find-parameters", "what goes through parameters finds some", covered=("VAE914",), cost="all")
def loops_find_parameters(bench: Bench) -> Iterator[Broken]:
    """The second use of one call of `parameters()` or `named_parameters()`, once its end was reached."""
    if not bench.model.record.used_up:
        return
    again = next(iter(bench.trained.used_up or bench.model.record.used_up))
    found = Found(
        again.made,
        label="can be gone through once",
        labels=tuple(
            Label(place, text)
            for place, text in ((again.ended, "goes through it to its end"), (again.asked, "finds none left: nothing is done here"))
            if place is not None
        ),
        why="parameters() gives an iterator, not a list: its second use raises nothing and does nothing, so gradients are not limited, "
        "or weights not frozen or averaged, as the code says",
        help="keep a list: list(model.parameters())",
    )
    yield Broken("parameters-used-up", found, "each use finds the parameters", "the second use of one iterator found 0 parameters")
