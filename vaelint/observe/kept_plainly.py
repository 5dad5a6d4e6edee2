"""Networks that another one keeps unregistered: `model.parameters()` does not know them, and an optimizer over these neither."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import torch
from torch import nn

from vaelint.record.held_parts import parts_of_holder

_DEEP = 4


def without_kept(tops: list[nn.Module], moved: Collection[int], own_class: Callable[[type], bool]) -> list[nn.Module]:
    """The networks but for those that another one keeps in a list or dict, in a closure, or in an object of the user's that is no module.

    One whose parameters an optimizer holds (their ids are `moved`) stays. A network that keeps a method of its own is kept by no other.
    """
    kept = set[int]()
    for top in tops:
        registered = list(top.modules())
        kept |= {id(m) for part in registered for m in _kept_by(part, own_class)} - {id(m) for m in registered}
    return [m for m in tops if id(m) not in kept or any(id(p) in moved for p in m.parameters())]


def _kept_by(module: nn.Module, own_class: Callable[[type], bool]) -> Iterator[nn.Module]:
    """The modules below what a module has as plain attributes."""
    seen: set[int] = set()
    for name, value in vars(module).items():
        if not name.startswith("_") and not isinstance(value, nn.Module):
            yield from _in(value, own_class, seen, 0)


def _in(value: object, own_class: Callable[[type], bool], seen: set[int], depth: int) -> Iterator[nn.Module]:
    if isinstance(value, nn.Module):
        yield value
    elif depth < _DEEP and id(value) not in seen and not isinstance(value, torch.Tensor):
        seen.add(id(value))
        for _, part in parts_of_holder(value, own_class):
            yield from _in(part, own_class, seen, depth + 1)
