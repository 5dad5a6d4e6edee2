"""Which gradients a value is put together from, and how often each is in it: what a step writes by its own hand.

A step that calls `torch.autograd.grad` may add what it got, weigh it, project it and cut one long vector of it into pieces before it
puts it into `.grad`, or moves its parameters by it.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from vaelint.core.reach import reachable
from vaelint.late import dataclass
from vaelint.record import ops

Element = tuple[int, int]  # the number of a pass, and the id of what it gave a gradient
_FOREACH = ("_foreach_", "_amp_foreach_")
_UNSCALES = "non_finite_check_and_unscale"
_THROUGH = ops.CAST | ops.SHAPE | ops.SELECT | {"detach", "data", "grad", "requires_grad"}
_NOTHING = frozenset({"zero_", "fill_"})


@dataclass(frozen=True)
class Share:
    """How often a gradient is in a value: a number of times, times what the step reckoned. `number` None: that is not known."""

    number: float | None
    times: tuple[tuple[bool, Any], ...] = ()  # whether it is divided by, and what

    def by(self, number: float) -> Share:
        """The share where the value is multiplied by a number."""
        return self if self.number is None else replace(self, number=self.number * number)

    def with_factor(self, divides: bool, factor: Any) -> Share:
        """The share where the value is multiplied by a value of the record, or divided by it."""
        return replace(self, times=tuple(sorted((*self.times, (divides, factor)), key=str)))


Shares = dict[Element, Share]
UNKNOWN = Share(None)


def shares_in(values: Iterable[fx.Node], elements: Mapping[fx.Node, Iterable[Element]]) -> dict[fx.Node, Shares]:
    """What each of some values is made of, and all that they were made by. `elements`: the gradients that torch gave."""
    starts = list(values)
    on_the_way = reachable(starts, lambda n: [] if n in elements else _carriers(n))
    found: dict[fx.Node, Shares] = {}
    for graph in {n.graph: None for n in starts}:
        for node in (n for n in graph.nodes if n in on_the_way):
            found[node] = {e: Share(1.0) for e in elements[node]} if node in elements else _made_of(node, found)
    return found


def added(parts: Iterable[Shares]) -> Shares:
    """The shares of a sum; those that cancel are left out."""
    total: Shares = {}
    for part in parts:
        for element, share in part.items():
            if (known := total.get(element)) is None:
                total[element] = share
            elif known.times != share.times or known.number is None or share.number is None:
                total[element] = UNKNOWN
            else:
                total[element] = replace(known, number=known.number + share.number)
    return {e: s for e, s in total.items() if s.number != 0}


def _operands(node: fx.Node) -> tuple[str, list[Any], dict[str, Any]]:
    """A node's operation and what it is applied to; of one that torch applies to lists, those of this place in them."""
    if node.target is operator.getitem and isinstance(whole := node.args[0], fx.Node) and ops.raw_name(whole).startswith(_FOREACH):
        at: Any = node.args[1]
        given = [a[at] if isinstance(a, list | tuple) else a for a in whole.args]
        name = ops.raw_name(whole).removeprefix("_amp").removeprefix("_foreach_").strip("_")
        return name if name != _UNSCALES else "clone", given, dict(whole.kwargs)
    return ops.op(node), list(node.args), dict(node.kwargs)


def _size(value: Any) -> int:
    """How many numbers a value holds; 0 where it is no tensor of the record."""
    val = value.meta.get("val") if isinstance(value, fx.Node) else None
    return val.numel() if isinstance(val, torch.Tensor) else 0


def _carriers(node: fx.Node) -> list[fx.Node]:
    """What a value may have its gradients from: a single number only scales those of a larger value."""
    if node.op != "call_function" or node.meta.get("scalar") or ops.raw_name(node) in _NOTHING:
        return []
    name, given, _ = _operands(node)
    if name == "zero":
        return []
    if node.target is operator.getitem and isinstance(node.args[0], fx.Node) and given[0] is not node.args[0]:
        inputs = [n for n in given if isinstance(n, fx.Node)]
    else:
        inputs = ops.value_inputs(node)
    return [n for n in inputs if not n.meta.get("scalar") and (_size(n) != 1 or _size(node) <= 1)]


def _made_of(node: fx.Node, found: Mapping[fx.Node, Shares]) -> Shares:
    carried = [shares for n in _carriers(node) if (shares := found.get(n))]
    if not carried:
        return {}
    name, given, words = _operands(node)
    linear = _linear(node, name, given, words, found)
    return linear if linear is not None else {e: UNKNOWN for shares in carried for e in shares}


def _linear(node: fx.Node, name: str, given: list[Any], words: Mapping[str, Any], found: Mapping[fx.Node, Shares]) -> Shares | None:
    """The shares in a value that is linear in what it is made of; None where that is not known to be so."""

    def of(value: Any) -> Shares:
        return found.get(value, {}) if isinstance(value, fx.Node) else {}

    if name == "effect":
        same = _size(given[0]) == _size(given[1])
        return of(given[1]) if same else None
    if name in _THROUGH:
        return of(given[0])
    if name == "copy":
        return of(given[1])
    if name in ("neg", "negative"):
        return _times(of(given[0]), -1.0)
    if name in ops.ADD and len(given) > 1:
        return _sum(name, given, words.get("alpha", given[2] if len(given) > 2 else 1), of)
    if name in ops.MUL | ops.DIV and len(given) == 2:
        return _scaled(name in ops.DIV, given, of)
    if name in ops.LINEAR_REDUCE and isinstance(given[0], fx.Node) and ops.op(given[0]) == "stack" and ops.dims_of(node) == (0,):
        parts: Any = given[0].args[0]
        whole = added(of(p) for p in parts) if not given[0].kwargs and len(given[0].args) == 1 else None
        return _times(whole, 1 / len(parts)) if whole is not None and name == "mean" else whole
    if name in ("cat", "concat", "concatenate", "hstack"):
        return _beside(of(p) for p in ops.tensors(given[0]))
    if name == "setitem" and len(given) == 3:
        return _beside([of(given[0]), of(given[2])])
    return None


def _times(shares: Shares, number: float) -> Shares:
    return {e: s.by(number) for e, s in shares.items()}


def _sum(name: str, given: list[Any], alpha: Any, of: Any) -> Shares | None:
    first, second = of(given[0]), of(given[1])
    if not isinstance(alpha, int | float):
        return None if second else first
    if name in ("rsub",):
        return added([_times(first, -1.0), second])
    return added([first, _times(second, -float(alpha) if "sub" in name else float(alpha))])


def _scaled(divides: bool, given: list[Any], of: Any) -> Shares | None:
    first, second = of(given[0]), of(given[1])
    if (first and second) or (second and divides):
        return None
    shares, factor = (first, given[1]) if first else (second, given[0])
    if isinstance(factor, int | float):
        return _times(shares, 1 / factor if divides and factor else float(factor))
    return {e: s.with_factor(divides, factor) for e, s in shares.items()}


def _beside(parts: Iterable[Shares]) -> Shares | None:
    """The shares in a long vector: a pass counts alike in all its pieces, or it is not known."""
    total: Shares = {}
    known: dict[int, Share] | None = None
    for part in (p for p in parts if p):
        here = {number: share for (number, _), share in part.items()}
        if (known is not None and here != known) or any(share != here[number] for (number, _), share in part.items()):
            return None
        known = here
        total |= part
    return total
