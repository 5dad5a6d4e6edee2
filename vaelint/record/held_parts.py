"""What a value holds: a list or dict its entries, a function its closure, an object of the user's its attributes."""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Callable, Iterator

import torch


def parts_of_holder(held: object, own_class: Callable[[type], bool]) -> Iterator[tuple[str, object]]:
    """What a value holds, with the attribute that does, if it is an object with attributes."""
    if isinstance(held, torch.nn.Module):
        for part in held.children():
            yield "", part
    elif isinstance(held, dict):
        for part in held.values():
            yield "", part
    elif isinstance(held, list | tuple | set):
        for part in held:
            yield "", part
    elif isinstance(held, functools.partial):
        for part in (held.func, *held.args, *held.keywords.values()):
            yield "", part
    elif isinstance(held, types.MethodType):
        yield "", held.__self__
    elif isinstance(held, types.FunctionType):
        for cell in held.__closure__ or ():
            with contextlib.suppress(ValueError):  # a name that has no value yet
                yield "", cell.cell_contents
    elif own_class(type(held)):
        yield from vars(held).items()
