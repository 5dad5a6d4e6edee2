"""The state of torch's generator before each draw of an iteration that was watched: by it the iteration runs again as it ran."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import fx

from vaelint.record.ops import RANDOM
from vaelint.record.record import Record

_STATE = "generator"
_SET_ANEW = "generator_set_anew"


def before(name: str) -> torch.Tensor | None:
    """The state, if a function of this name draws: dropout does as well."""
    return torch.default_generator.get_state() if name.strip("_") in RANDOM or "dropout" in name else None


def note(drawn: Any, state: torch.Tensor | None, node_for: Callable[[Any], fx.Node | None]) -> Any:
    """Notes the state that something was drawn from, and gives back what was drawn."""
    if state is not None and (node := node_for(drawn)) is not None:
        node.meta[_STATE] = state
    return drawn


def restore(node: fx.Node) -> None:
    """Puts the generator where it was before a draw."""
    if (state := node.meta.get(_STATE)) is not None:
        torch.default_generator.set_state(state)


def mark_repeated(first: Record, other: Record) -> None:
    """Marks the draws of an iteration that a later one makes from the same state: something sets the generator anew."""
    known = {key for key, _ in _states(other)}
    for key, node in _states(first):
        if key in known:
            node.meta[_SET_ANEW] = True


def is_set_anew(node: fx.Node) -> bool:
    """Whether a later iteration made the same draw from the same state."""
    return bool(node.meta.get(_SET_ANEW))


def _states(record: Record) -> Iterator[tuple[object, fx.Node]]:
    for node in record.graph.nodes:
        if (state := node.meta.get(_STATE)) is not None:
            yield (tuple(node.meta.get("stack", ())), state.numpy().tobytes()), node
