"""What keeps a layer that the model does not know: a list or dict, a closure, an object that is no module."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from vaelint.record.held_parts import parts_of_holder

_DEEP = 5


def holders(model: torch.nn.Module, wanted: torch.nn.Module, own_class: Callable[[type], bool]) -> Iterator[tuple[object, str]]:
    """From the outside in: the modules and plain objects of the user's classes (`own_class`) below which a layer lies unregistered, each
    with the attribute that leads there. Nothing where no attribute of the model does."""
    for owner in model.modules():
        for name, held in vars(owner).items():
            if not name.startswith("_") and not isinstance(held, torch.nn.Module):
                path = _path(held, wanted, own_class, set(), 0)
                if path is not None:
                    yield owner, name
                    yield from path
                    return


def _path(
    held: object, wanted: torch.nn.Module, own_class: Callable[[type], bool], seen: set[int], depth: int
) -> list[tuple[object, str]] | None:
    """The plain objects between a value and the layer; None where the layer is not below it."""
    if held is wanted:
        return []
    if depth > _DEEP or id(held) in seen or isinstance(held, torch.Tensor):
        return None
    seen.add(id(held))
    for name, part in parts_of_holder(held, own_class):
        below = _path(part, wanted, own_class, seen, depth + 1)
        if below is not None:
            return [(held, name), *below] if name else below
    return None
