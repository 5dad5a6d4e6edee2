"""The script's optimizers, over a copy's parameters in the place of the script's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from vaelint.core.finding import Span
from vaelint.trace.optimizers import Optimizer


def on_copy(optimizer: Any, place: Span | None, number: Callable[[int], int]) -> Optimizer:
    """An optimizer as it was seen; `number` gives the copy's tensor for one of the script's, by their ids."""
    return _Held(type(optimizer).__name__, place, optimizer, True, number)


class _Held(Optimizer):
    def __init__(self, name: str, span: Span | None, made: Any, in_step: bool, number: Callable[[int], int]) -> None:
        super().__init__(name, span, made, in_step)
        object.__setattr__(self, "_number", number)

    def number_of(self, parameter: torch.Tensor) -> int:
        """The id of the copy's."""
        number: int = vars(self)["_number"](id(parameter))
        return number
