"""The state of the generator before each draw of an iteration that was watched: by it the iteration runs again as it ran.

The generator is the one that the draw is given, or else that of the device on which it is made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import fx

from vaelint.record.ops import RANDOM
from vaelint.record.record import Record

_STATE = "generator"
_OF = "generator_of"
_SET_ANEW = "generator_set_anew"


States = list[tuple[torch.Generator, torch.Tensor]]


def before(name: str, kwargs: Mapping[str, Any]) -> States | None:
    """The generators that a function of this name may draw from, with their states; None if it does not draw. Dropout does as well."""
    if name.strip("_") not in RANDOM and "dropout" not in name:
        return None
    own = kwargs.get("generator")
    return [(g, g.get_state()) for g in ([own] if isinstance(own, torch.Generator) else _of_the_devices())]


def _of_the_devices() -> list[torch.Generator]:
    on_gpus = torch.cuda.default_generators if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    return [torch.default_generator, *on_gpus]


def note(drawn: Any, states: States | None, node_for: Callable[[Any], fx.Node | None]) -> Any:
    """Notes the state that something was drawn from, and gives back what was drawn."""
    if states and isinstance(drawn, torch.Tensor) and (node := node_for(drawn)) is not None:
        own = next(((g, s) for g, s in states if g.device == drawn.device), states[0])
        node.meta[_OF], node.meta[_STATE] = own
    return drawn


def restore(node: fx.Node) -> None:
    """Puts the generator where it was before a draw."""
    if (state := node.meta.get(_STATE)) is not None:
        node.meta[_OF].set_state(state)


@contextlib.contextmanager
def kept(record: Record) -> Iterator[None]:
    """All generators that a record's draws were made from are afterwards where they were."""
    used = {id(g): g for n in record.graph.nodes if (g := n.meta.get(_OF)) is not None}
    states = [(g, g.get_state()) for g in used.values()]
    try:
        yield
    finally:
        for generator, state in states:
            generator.set_state(state)


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
