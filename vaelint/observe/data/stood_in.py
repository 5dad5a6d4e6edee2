"""What is said of data that were made up, with the choice that it tells of. Imports no torch."""

from __future__ import annotations

from vaelint.core.assumption import Assumption, Chosen


def instead_of(name: str, made: str, text: str = "", *, varied: bool = False) -> Chosen:
    """`made-up data instead of NAME: MADE`, or another text; the line of the script is added where it is noted.

    `varied`: nothing tells their size, and another one can take its place.
    """
    choice = Assumption("data", name, made, "its data are not there", varied=varied)
    return Chosen(text or f"made-up data instead of {name}: {made}", choice)
