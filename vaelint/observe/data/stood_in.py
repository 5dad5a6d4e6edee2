"""What is said of data that were made up, with the choice that it tells of. Imports no torch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from vaelint.core.assumption import Assumption, Chosen


def instead_of(name: str, made: str, text: str = "", *, varied: bool = False) -> Chosen:
    """`made-up data instead of NAME: MADE`, or another text; the line of the script is added where it is noted.

    `varied`: nothing tells their size, and another one can take its place.
    """
    choice = Assumption("data", name, made, "its data are not there", varied=varied)
    return Chosen(text or f"made-up data instead of {name}: {made}", choice)


_NOT_THERE = (OSError, RuntimeError, ValueError, ImportError)
"""What libraries raise where they cannot download: refused connections, hubs that are offline, data sets that are not kept."""


def where_absent(original: Callable[..., Any], substitute: Callable[..., Any], data: str) -> Callable[..., Any]:
    """The library's own function, and what is made up where it cannot get its data."""

    def either(*args: Any, **kwargs: Any) -> Any:
        if data == "auto":
            with contextlib.suppress(*_NOT_THERE):
                return original(*args, **kwargs)
        return substitute(*args, **kwargs)

    return either
