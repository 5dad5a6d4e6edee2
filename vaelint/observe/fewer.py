"""A batch that no loader gives, with fewer rows: cut where the script makes it, or where it enters a network from outside of the loop."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

import torch
from torch import fx
from torch.overrides import TorchFunctionMode

from vaelint.core.finding import Span
from vaelint.late import dataclass
from vaelint.record.record import name_of, span
from vaelint.trace import torch_private
from vaelint.trace.recorder import Recorder
from vaelint.trace.spans import SpanFinder

_SELECTS = frozenset({"getitem", "index_select", "narrow", "take", "gather"})
_MAKES = frozenset({"from_numpy", "tensor", "as_tensor"})


Place = tuple[str, Span]
"""The name of an operation, and where it stands."""
Line = tuple[str, int]
"""A file, and a line of it."""


@dataclass(frozen=True)
class Entered:
    """A tensor of the batch: the first operation or constant on the way to it that has its rows, if any, and what reads that."""

    tensor: torch.Tensor
    source: fx.Node | None
    readers: frozenset[Line]

    @classmethod
    def by(cls, tensor: torch.Tensor, node: fx.Node | None) -> Entered:
        """As `node` made it."""
        source = source_of(node, tensor.shape[0])
        readers = source.users if source is not None and source.op == "get_attr" else ()
        return cls(tensor, source, frozenset((p.file, p.line) for n in readers if (p := span(n)) is not None))


@dataclass(frozen=True)
class Origin:
    """Where an iteration's batch comes from: its rows, the operations of the script that make it, and the other sizes that were met."""

    rows: int
    places: frozenset[Place]  # of what makes the batch
    reads: frozenset[Line]  # that read it first, where it was there before the iteration began
    sizes: frozenset[int]
    even: bool  # whether no slice of the data is seen that ends in a smaller one

    @classmethod
    def of(cls, graph: fx.Graph, entered: Iterable[Entered], rows: int | None) -> Origin | None:
        """Of what entered the networks. None where it cannot be told."""
        batch = [one for one in entered if one.tensor.shape[0] == rows]
        if rows is None or not batch:
            return None
        sources = [one.source for one in batch if one.source is not None] + [n for n in graph.nodes if is_selected(n, rows)]
        places = frozenset(p for n in sources if (p := _place(n)) is not None)
        sizes = {int(n) for one in batch for n in one.tensor.shape[1:]}
        reads = frozenset(p for one in batch for p in one.readers)
        return cls(rows, places, reads, frozenset(sizes), not any(_has_a_rest(n, rows) for n in sources))


def _place(node: fx.Node) -> Place | None:
    place = span(node) if node.op == "call_function" else None
    return (name_of(node.target), place) if place is not None else None


def _rows(value: Any) -> int | None:
    val = value.meta.get("val") if isinstance(value, fx.Node) else None
    return int(val.shape[0]) if isinstance(val, torch.Tensor) and val.ndim else None


def _has_a_rest(node: fx.Node, rows: int) -> bool:
    """Whether a value is a slice of something that such slices do not use up."""
    index = node.args[1] if name_of(node.target) == "getitem" and len(node.args) > 1 else None
    first = index[0] if isinstance(index, tuple) and index else index
    whole = _rows(node.args[0]) if node.args else None
    return isinstance(first, slice) and whole is not None and whole % rows != 0


def source_of(node: fx.Node | None, rows: int) -> fx.Node | None:
    """The first operation on the way to a value that has as many rows: `data[i:i + 32]` before `.to(device)`."""
    while node is not None and node.args and isinstance(node.args[0], fx.Node) and _rows(node.args[0]) == rows:
        node = node.args[0]
    return node


def made_by(node: fx.Node | None, rows: int) -> fx.Node | None:
    """The first operation on the way to what enters a network of the batch's rows, of real numbers; None if there is none."""
    while node is not None and node.args and isinstance(first := node.args[0], fx.Node) and _rows(first) == rows:
        if not _is_made(first) or not first.meta["val"].is_floating_point():
            break
        node = first
    return node if node is not None and _is_made(node) and isinstance(node.meta.get("val"), torch.Tensor) else None


def _is_made(node: fx.Node) -> bool:
    """Whether the script made it, in the iteration or before."""
    return node.op == "call_function" or (node.op == "get_attr" and str(node.target).startswith("_constant_"))


def is_selected(node: fx.Node, rows: int | None) -> bool:
    """Whether the script takes as many rows out of something larger, or makes them of plain numbers: labels that go with the data."""
    if node.op != "call_function" or _rows(node) != rows or node.meta.get("module") or node.meta.get("grad"):
        return False
    name = name_of(node.target)
    if name not in _SELECTS:
        return name in _MAKES and not node.all_input_nodes
    whole = node.args[0]
    if not (isinstance(whole, fx.Node) and _is_made(whole)):
        return False
    return (_rows(whole) or 0) > (rows or 0) or (_rows(whole) == rows and _is_shuffled(node))


def _is_shuffled(node: fx.Node) -> bool:
    """Whether all rows are taken, in an order that a tensor gives: data that fill no whole batch."""
    index = node.args[1] if len(node.args) > 1 else None
    index = index[0] if isinstance(index, tuple | list) and index else index
    return (
        isinstance(index, fx.Node)
        and isinstance(order := index.meta.get("val"), torch.Tensor)
        and order.ndim == 1
        and not order.is_floating_point()
    )


def input_instead(recorder: Recorder, name: str, node: fx.Node) -> fx.Node:
    """Registers what a node made as an input: whatever reads the node reads the input."""
    with recorder.graph.inserting_before(node):
        made = recorder.input(name, node.meta["val"])
    node.replace_all_uses_with(made)
    return made


class Cutting(TorchFunctionMode):
    """Within it, what the named operations give has fewer rows. Lies below the recorder, which sees what is left."""

    def __init__(
        self, origin: Origin, fewer: int, spans: SpanFinder, is_paused: Callable[[], bool], shrink: Callable[[torch.Tensor], None]
    ) -> None:
        """`shrink`: gives a tensor that was there before fewer rows."""
        super().__init__()
        self._origin, self._fewer, self._spans, self._is_paused, self._shrink = origin, fewer, spans, is_paused, shrink
        self._names = {name for name, _ in origin.places}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        read = args[0] if args and self._origin.reads and not self._is_paused() else None
        if isinstance(read, torch.Tensor) and self._has_all(read):
            stack = self._spans.stack(sys._getframe(1), limit=1)
            if stack and (stack[0].file, stack[0].line) in self._origin.reads:
                self._shrink(read)
        return self.cut(name_of(func), func(*args, **kwargs or {}), sys._getframe(1))

    def cut(self, name: str, made: Any, frame: FrameType) -> Any:
        """What an operation made, with fewer rows if it is one of those."""
        if name not in self._names or not isinstance(made, torch.Tensor) or not self._has_all(made) or self._is_paused():
            return made
        stack = self._spans.stack(frame, limit=1)
        return made[: self._fewer] if stack and (name, stack[0]) in self._origin.places else made

    def _has_all(self, tensor: torch.Tensor) -> bool:
        with torch_private.no_torch_function():
            return bool(tensor.ndim and tensor.shape[0] == self._origin.rows)

    @contextlib.contextmanager
    def from_numpy_too(self) -> Iterator[None]:
        """`torch.from_numpy` does not announce itself to function modes."""
        original = torch.from_numpy

        def from_numpy(ndarray: Any) -> torch.Tensor:
            return self.cut("from_numpy", original(ndarray), sys._getframe(1))  # type: ignore[no-any-return]

        torch.from_numpy = from_numpy
        try:
            yield
        finally:
            torch.from_numpy = original


class Shrunk:
    """Tensors that have fewer rows for a while, whoever holds them."""

    def __init__(self) -> None:
        self._whole: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def shrink(self, tensor: torch.Tensor, rows: int, fewer: int) -> None:
        """The tensor has its first `fewer` rows from now on, if it has `rows`."""
        if tensor.ndim and tensor.shape[0] == rows and not tensor.requires_grad and tensor.layout is torch.strided:
            self._whole[id(tensor)] = (tensor, tensor.data)
            tensor.data = tensor.data[:fewer]

    def __contains__(self, tensor: torch.Tensor) -> bool:
        return id(tensor) in self._whole

    def restore(self) -> None:
        """All have their rows again."""
        for tensor, whole in self._whole.values():
            tensor.data = whole
        self._whole.clear()


def beside(frames: Iterable[FrameType]) -> list[torch.Tensor]:
    """The tensors that variables of running functions hold, in tuples and lists too: labels that go with the data."""
    held = [v for f in frames for v in f.f_locals.values()]
    parts = [p for v in held for p in (v if isinstance(v, tuple | list) and len(v) < 9 else (v,))]
    return [p for p in parts if isinstance(p, torch.Tensor)]
