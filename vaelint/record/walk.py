"""What is reached from some nodes: of the recorded graph, or of autograd's."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterable
from typing import Any, TypeVar

import torch

_Node = TypeVar("_Node", bound=Hashable)


def reachable(starts: Iterable[_Node], further: Callable[[_Node], Iterable[_Node]], stop: Container[_Node] = ()) -> set[_Node]:
    """All that is reached from `starts` by the steps of `further`, themselves included; what is in `stop` is reached and not passed."""
    seen: set[_Node] = set()
    todo = list(starts)
    while todo:
        here = todo.pop()
        if here not in seen:
            seen.add(here)
            if here not in stop:
                todo.extend(further(here))
    return seen


def functions_behind(*values: torch.Tensor) -> set[Any]:
    """The backward functions that the gradient of some tensors runs."""
    starts = [v.grad_fn for v in values if v.grad_fn is not None]
    return reachable(starts, lambda function: [f for f, _ in function.next_functions if f is not None])


def leaves_behind(*values: torch.Tensor) -> list[torch.Tensor]:
    """The tensors that a backward pass through some values would give a gradient: themselves, or what they were computed from."""
    found = {id(v): v for v in values if v.grad_fn is None and v.requires_grad}
    held = (getattr(function, "variable", None) for function in functions_behind(*values))  # AccumulateGrad has one
    found.update({id(v): v for v in held if isinstance(v, torch.Tensor)})
    return list(found.values())
