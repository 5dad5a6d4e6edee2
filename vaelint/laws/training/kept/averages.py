"""Law B5, for averages: an average moves towards what it averages, and keeps most of itself.

Intervention: the step runs with its optimizers; the operations that write an average are run again on another old value and on another
live value. Old and live enter with a + b = 1 in an average; with a small a it is the last value and no average.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

from vaelint.experiment.recompute import in_place
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.marks import effect
from vaelint.record.record import Record, span
from vaelint.rule import Found

_LITTLE = 0.05  # a warm-up of the decay, (1 + n) / (10 + n), starts at 0.1; a first value that is copied keeps exactly 0
_NONE = 1e-6
_MOST = 40  # pairs of tensors that are tried
SHARING = frozenset({"attribute", "data", "detach", "requires_grad_"})


@dataclass(frozen=True)
class Update:
    """A tensor that outlives the step and is written in place, the last node that writes it, and a value that enters it."""

    old: torch.Tensor
    live: torch.Tensor
    nodes: tuple[fx.Node, ...]
    last: fx.Node


@law("averages-keep-most", "a moving average keeps most of itself at each step", covered=("VAE902",), cost="all")
def averages_keep_most(bench: Bench) -> Iterator[Broken]:
    """Parameters and buffers that a step writes in place from others. Copies (of a first value, of a target network) are none."""
    static = bench.model.record
    if not static.objectives and not any(in_place(n) and not n.meta.get("grad") for n in static.nodes):
        return
    for update in updates_of(bench.trained):
        shares = shares_of(update)
        if shares is not None and _NONE < shares[0] < _LITTLE and abs(sum(shares) - 1) < 1e-3:
            yield _replaced(bench, update, shares)
            return


def updates_of(record: Record) -> Iterator[Update]:
    """What a step writes in place, and no optimizer does, into tensors that outlive it, with each value that enters."""
    held = {id(t) for o in record.optimizers for state in o.made.state.values() for t in state.values() if isinstance(t, torch.Tensor)}
    owned = {i for o in record.optimizers for i in o.those(lambda _, p: p.requires_grad)}  # it skips the frozen ones
    nodes = [n for n in record.nodes if n.op == "call_function" and n.target is not effect]
    tried = 0
    for at, node in enumerate(nodes):
        if (
            not in_place(node)
            or ops.raw_name(node) in SHARING
            or node.meta.get("grad")
            or not isinstance(first := node.args[0] if node.args else None, fx.Node)
        ):
            continue
        root = root_of(first)
        old = root.meta.get("val")
        if not isinstance(old, torch.Tensor) or id(old) in held | owned or not _lasts(root, old):
            continue
        start = _start(nodes, at, old)
        for live in _entering(nodes[start : at + 1], old):
            tried += 1
            if tried > _MOST:
                return
            yield Update(old, live, tuple(nodes[start : at + 1]), node)


def root_of(node: fx.Node) -> fx.Node:
    """The tensor that a node is, or shares its memory with."""
    while (ops.raw_name(node) in SHARING or in_place(node) or node.target is effect) and node.args and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node


def _lasts(root: fx.Node, val: torch.Tensor) -> bool:
    """Whether a tensor outlives the step: the model's own, or a parameter of a copy of it."""
    made = isinstance(val, torch.nn.Parameter) or any(isinstance(u.meta.get("val"), torch.nn.Parameter) for u in root.users)
    return val.is_floating_point() and val.numel() > 0 and (root.op == "get_attr" or made)


def _start(nodes: list[fx.Node], at: int, old: torch.Tensor) -> int:
    """Where the update begins that ends at `at`: before the first of the writes that stand on the same line."""
    place = span(nodes[at])
    start = at
    while start > 0 and (here := span(nodes[start - 1])) is not None and place is not None and here.file == place.file:
        if here.line != place.line and root_of(nodes[start - 1]).meta.get("val") is not old:
            break
        start -= 1
    return start


def _entering(nodes: list[fx.Node], old: torch.Tensor) -> list[torch.Tensor]:
    """The values of the same shape that enter an update, from outside or on its own line."""
    found: dict[int, torch.Tensor] = {}
    for node in nodes:
        for source in node.all_input_nodes:
            val = root_of(source).meta.get("val")
            if isinstance(val, torch.Tensor) and val is not old and val.shape == old.shape and val.is_floating_point():
                found[id(val)] = val
    return list(found.values())


def shares_of(update: Update) -> tuple[float, float] | None:
    """How much of the old value and of the live one the new value keeps; None where it is no sum of both, alike for all elements."""
    zero, one = torch.zeros_like(update.old.detach()), torch.ones_like(update.old.detach())
    base, old, live, twice = (_after(update, o, n) for o, n in ((zero, zero), (one, zero), (zero, one), (2 * one, zero)))
    if base is None or old is None or live is None or twice is None:
        return None
    a, b = old - base, live - base
    alike = all(bool((x - x.mean()).abs().max() < 1e-5) for x in (a, b))
    return (float(a.mean()), float(b.mean())) if alike and torch.allclose(twice - base, 2 * a, atol=1e-5) else None


def _after(update: Update, old: torch.Tensor, live: torch.Tensor) -> torch.Tensor | None:
    """What the update writes for another old and another live value; None where its operations cannot be run again."""
    put: dict[int, Any] = {id(update.old): old.clone(), id(update.live): live.clone()}

    def now(value: Any) -> Any:
        if isinstance(value, fx.Node):
            val = value.meta.get("val")
            own = id(val) if id(val) in put else id(root_of(value).meta.get("val"))
            return put.get(own, val)
        if isinstance(value, tuple | list):
            return type(value)(now(v) for v in value)
        return value

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for node in update.nodes:
            if not any(id(i.meta.get("val")) in put or id(root_of(i).meta.get("val")) in put for i in node.all_input_nodes):
                continue
            target: Any = node.target
            try:
                result = target(*now(node.args), **{k: now(v) for k, v in node.kwargs.items()})
            except (RuntimeError, ValueError, TypeError, IndexError):
                return None
            if not in_place(node) and isinstance(result, torch.Tensor) and ops.raw_name(node) not in SHARING:
                put[id(node.meta.get("val"))] = result
    written: torch.Tensor = put[id(update.old)]
    return written


def _replaced(bench: Bench, update: Update, shares: tuple[float, float]) -> Broken:
    a, b = shares
    found = Found(
        span(update.last),
        label=f"keeps {a:.3g} of itself and takes {b:.3g} of the new value",
        labels=(),
        why="it is the last value and no average: what averaging was to smooth comes through at every step",
        help="exchange the two shares: decay * average + (1 - decay) * new, with a decay near 1",
    )
    return Broken("average-replaced", found, "an average keeps most of itself", f"{a:.3g} of the old value and {b:.3g} of the new one")
