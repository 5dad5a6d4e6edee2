"""What moves with a size other than the batch: two runs of the step, of models made for two values of it, laid side by side.

A slice with a layer, a buffer or a literal of that size in it does not run at another one as it stands. Where the user's model can be
asked for both, each dimension and each literal that moved between the two runs is known as a function of the size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from functools import cached_property
from typing import Any

import torch
from torch import fx

from vaelint.core.errors import TargetError
from vaelint.late import dataclass
from vaelint.record.record import Record
from vaelint.trace.ladder import Tracer
from vaelint.trace.lift import SymbolPower, alike
from vaelint.trace.standin import InsteadOfCuda

_FORMS: tuple[tuple[Callable[[int], float], bool], ...] = (  # of the size, up to a factor; whether only for whole numbers
    (lambda n: n, False),
    (lambda n: 1 / n, False),
    (lambda n: n * n, False),
    (lambda n: n**-2, False),
    (lambda n: n * (n + 1) / 2, True),
    (lambda n: n * (n - 1) / 2, True),
)


class Growth(float):
    """A number of the record that moves with a size; its float value is that of the recorded run."""

    of: Callable[[int], float]

    def __new__(cls, value: float, of: Callable[[int], float]) -> Growth:
        self = super().__new__(cls, value)
        self.of = of
        return self

    def at(self, size: int) -> float | int:
        """The number when the size has this value, whole where it is whole."""
        value = self.of(size)
        return round(value) if abs(value - round(value)) < 1e-9 * max(1.0, abs(value)) else value


def growth(p: float, q: float, n: int, m: int) -> Growth | None:
    """A number that is p at size n and q at size m, as a function of the size; None if it has no form of the list, or is no number."""
    if not (math.isfinite(p) and math.isfinite(q)):
        return None
    for form, whole in _FORMS:
        if p and abs(q / p - form(m) / form(n)) < 1e-9 and not (whole and (p != int(p) or form(n) == 0)):
            return Growth(p, lambda size, form=form: p * form(size) / form(n))  # type: ignore[misc]
    slope = (q - p) / (m - n)
    return Growth(p, lambda size: p + slope * (size - n)) if slope == int(slope) and p == int(p) else None


@dataclass
class Along:
    """How the dimensions and literals of a record move with one symbol, from `old` to the other size that was run."""

    symbol: str
    old: int
    new: int
    dims: dict[fx.Node, tuple[Growth | None, ...]] = field(default_factory=dict)
    literals: dict[fx.Node, tuple[Any, Any]] = field(default_factory=dict)
    inputs: dict[str, int] = field(default_factory=dict)  # sizes of the inputs in the other run
    leaves: dict[fx.Node, fx.Node] = field(default_factory=dict)  # parameters, buffers and constants, with those of the other run
    build: Callable[[], torch.nn.Module] | None = None  # makes the other model

    @cached_property
    def _model(self) -> torch.nn.Module | None:
        with InsteadOfCuda():
            return self.build() if self.build is not None else None

    def leaf(self, node: fx.Node) -> torch.Tensor | None:
        """The real value that a parameter, buffer or constant has in the other model; None where it has none."""
        twin = self.leaves.get(node)
        path = twin.meta.get("held", str(twin.target)) if twin is not None else "_constant_"
        if path.startswith("_constant_"):
            val = twin.meta.get("val") if twin is not None else None
            return val if type(val) in (torch.Tensor, torch.nn.Parameter) else None
        found: Any = self._model
        for part in path.split("."):
            found = getattr(found, part, None)
        return found if isinstance(found, torch.Tensor) else None


Runs = dict[tuple[tuple[str, int], ...], Record | None]
"""Runs of the user's model as it is at other sizes of inputs, by these: they serve each symbol that is asked for."""


def find_along(record: Record, tracer: Tracer, symbol: str, inputs: Mapping[str, int], runs: Runs) -> Along | None:
    """A second run at twice the size of a symbol, laid beside the record; None where the model cannot be had at another size."""
    size = next((int(n) for node, texts in record.shapes.items() if symbol in texts for n in [_size_of(node, texts.index(symbol))]), 0)
    if size < 2:
        return None
    for sizes, build in _variants(tracer, symbol, size, inputs):
        key = tuple(sorted(sizes.items()))
        if build is not None:
            other = _attempt(record, tracer, sizes, build)
        else:
            other = runs[key] = runs[key] if key in runs else _attempt(record, tracer, sizes, None)
        found = lay(record, other, symbol, size) if other is not None and other.failure is None else None
        if found is not None:
            found.inputs, found.build = sizes, build
            return found
    return None


def _attempt(record: Record, tracer: Tracer, sizes: dict[str, int], build: Callable[[], torch.nn.Module] | None) -> Record | None:
    try:
        return tracer.attempt(record.step, {**record.sizes, **sizes}, build)
    except TargetError:
        return None


def _variants(
    tracer: Tracer, symbol: str, size: int, inputs: Mapping[str, int]
) -> Iterator[tuple[dict[str, int], Callable[[], torch.nn.Module] | None]]:
    """Sizes of inputs and models to try: constructor arguments of that value, each with the input of that name; then other inputs."""
    own = {symbol: 2 * size} if symbol in inputs else {}
    for build in tracer.variants(size, 2 * size):
        yield own, build
    for name, value in inputs.items():
        if name != "B" and value > 2:
            yield {name: 2 * value - 1}, None


def lay(record: Record, other: Record, symbol: str, n: int) -> Along | None:
    """The two runs side by side; None where they took different ways, or where the symbol has the same size in both."""
    mine, theirs = record.nodes, other.nodes
    if len(mine) != len(theirs) or not all(map(alike, mine, theirs)):
        return None
    pairs = list(zip(mine, theirs, strict=True))
    sizes = {_size_of(b, record.shapes[a].index(symbol)) for a, b in pairs if symbol in record.shapes.get(a, ())}
    if len(sizes) != 1 or (m := sizes.pop()) == n:
        return None
    found = Along(symbol, n, m)
    for a, b in pairs:
        val, twin = a.meta.get("val"), b.meta.get("val")
        if isinstance(val, torch.Tensor) and isinstance(twin, torch.Tensor):
            if val.dim() != twin.dim():
                return None
            moved = tuple(growth(float(p), float(q), n, m) if p != q else None for p, q in zip(val.shape, twin.shape, strict=True))
            if any(p != q and g is None for p, q, g in zip(val.shape, twin.shape, moved, strict=True)):
                return None
            if any(moved):
                found.dims[a] = moved
        if a.op == "get_attr":
            found.leaves[a] = b
        if a.op == "call_function":
            args, kwargs = (_literals(x, y, record, n, m) for x, y in ((a.args, b.args), (dict(a.kwargs), dict(b.kwargs))))
            if args is not a.args or kwargs != dict(a.kwargs):
                found.literals[a] = (args, kwargs)
    return found


def _literals(a: Any, b: Any, record: Record, n: int, m: int) -> Any:
    """Arguments with each number that moved replaced by a function of the size."""
    if isinstance(a, fx.Node | bool):
        return a
    if isinstance(a, int | float) and isinstance(b, int | float):
        here = a.at(record.sizes[a.symbol]) if isinstance(a, SymbolPower) else a
        return a if here == b else growth(float(here), float(b), n, m) or a
    if isinstance(a, tuple | list) and isinstance(b, tuple | list) and len(a) == len(b):
        made = [_literals(x, y, record, n, m) for x, y in zip(a, b, strict=True)]
        return a if all(x is y for x, y in zip(made, a, strict=True)) else type(a)(made)
    if isinstance(a, dict) and isinstance(b, dict):
        return {k: _literals(v, b.get(k), record, n, m) for k, v in a.items()}
    return a


def _size_of(node: fx.Node, dim: int) -> int:
    val = node.meta.get("val")
    return int(val.shape[dim]) if isinstance(val, torch.Tensor) and dim < val.dim() else 0
