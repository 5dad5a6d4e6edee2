"""What is reached from some things by steps from one to the next: the one walk that all others are made of. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item", bound=Hashable)


def walked(starts: Iterable[Item], further: Callable[[Item], Iterable[Item]]) -> Iterator[Item]:
    """All that is reached from `starts` by the steps of `further`, themselves included, each once; the last one found goes first."""
    seen: set[Item] = set()
    todo = list(starts)
    while todo:
        here = todo.pop()
        if here not in seen:
            seen.add(here)
            yield here
            todo.extend(further(here))


def reachable(starts: Iterable[Item], further: Callable[[Item], Iterable[Item]], stop: Container[Item] = ()) -> set[Item]:
    """The same as a set; what is in `stop` is reached and not passed."""
    seen: set[Item] = set()
    todo = list(starts)
    while todo:
        here = todo.pop()
        if here not in seen:
            seen.add(here)
            if here not in stop:
                todo.extend(further(here))
    return seen


def ends(starts: Iterable[Item], further: Callable[[Item], Iterable[Item] | None]) -> set[Item]:
    """What is reached and leads no further: where `further` gives None."""
    found: set[Item] = set()

    def on(here: Item) -> Iterable[Item]:
        onward = further(here)
        if onward is None:
            found.add(here)
        return onward or ()

    for _ in walked(starts, on):
        pass
    return found
