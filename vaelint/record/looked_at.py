"""What a training makes of single values to look at them: numbers that it prints or logs, which are no part of its step."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import fx

from vaelint.record.sizes import TracedFloat

_T = TypeVar("_T")
ONE_OF_ONE = frozenset({"mean", "sum", "detach", "cpu"})
"""What makes of one value a number of it."""


class LookedAt:
    """Numbers by their identity, each with the node of the value that it is of."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[object, fx.Node]] = {}

    def note(self, func: object, result: _T, node: fx.Node | None) -> _T:
        """A function, which is not recorded, gave a result for a value; that of another one is no number of it."""
        if node is not None and (type(result) is float or getattr(func, "__name__", "") in ONE_OF_ONE):
            self._made[id(result)] = (result, node)
        return result

    def node_of(self, value: object) -> fx.Node | None:
        """The node of the value that a number is of: the very number that `item()` gave, or that of its mean."""
        if isinstance(value, TracedFloat):
            made: fx.Node | None = value.expr.args[0] if value.expr.fn is torch.Tensor.item else None
            return made
        return self._made[id(value)][1] if id(value) in self._made else None
