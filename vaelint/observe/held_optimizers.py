"""The script's optimizers, over a copy's parameters in the place of the script's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from vaelint.core.finding import Span
from vaelint.trace.optimizers import Optimizer
from vaelint.trace.recorded_run import names_of_tensors


def on_copy(optimizer: Any, place: Span | None, names: Mapping[int, str], model: nn.Module) -> Optimizer:
    """The script's optimizer, over the copy's parameters in the place of the script's own."""
    own = {name: number for number, name in names_of_tensors(model).items()}
    held = {own.get(names[id(p)], id(p)) if id(p) in names else id(p) for group in optimizer.param_groups for p in group["params"]}
    return _Held(type(optimizer).__name__, place, optimizer, True, frozenset(held))


class _Held(Optimizer):
    """An optimizer as it was seen, with the parameters it held."""

    def __init__(self, name: str, span: Span | None, made: Any, in_step: bool, held: frozenset[int]) -> None:
        super().__init__(name, span, made, in_step)
        object.__setattr__(self, "_held", held)

    @property
    def parameters(self) -> frozenset[int]:
        """The ids of those that it holds, in the copy."""
        held: frozenset[int] = vars(self)["_held"]
        return held
