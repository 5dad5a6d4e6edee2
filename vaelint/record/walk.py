"""Ways through a record: back through views, forward to what a value becomes; and through autograd's graph."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import fx

from vaelint.core.reach import reachable, walked
from vaelint.record import ops


def back(node: fx.Node, through: Container[str]) -> Iterator[fx.Node]:
    """A value, and one after another what it is a view, a cast or a part of; the last one is no such operation of `through`."""
    yield node
    while ops.op(node) in through and (sources := ops.value_inputs(node)):
        node = sources[0]
        yield node


def behind(node: fx.Node, through: Container[str], until: Container[fx.Node] = ()) -> fx.Node:
    """What a value is a view, a cast or a part of: back along first operands while the operation is one of `through`.

    What is in `until` is not passed.
    """
    while node not in until and ops.op(node) in through and (sources := ops.value_inputs(node)):
        node = sources[0]
    return node


def forward(node: fx.Node, users: Mapping[fx.Node, Iterable[fx.Node]], through: Container[str]) -> Iterator[fx.Node]:
    """Every operation that reads a value, or what the value becomes by the operations of `through`, each once."""
    return (n for n in walked([node], lambda here: users.get(here, ()) if here is node or ops.op(here) in through else ()) if n is not node)


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
