"""Runs a slice of the record again, on small double tensors of our choosing, at sizes of our choosing."""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import fx

from vaelint.core.messages import message_of
from vaelint.core.reach import reachable
from vaelint.record import ops
from vaelint.record.marks import effect
from vaelint.record.record import Record
from vaelint.replay.stretch import size_map, stretch_literals, stretch_value
from vaelint.trace import torch_private
from vaelint.trace.along import Along, Growth
from vaelint.trace.lift import SymbolPower, scaled_by

_FLOATS = {torch.float32, torch.float16, torch.bfloat16}
_CASTS: dict[Any, Any] = {
    torch.Tensor.float: torch.Tensor.double,
    torch.Tensor.half: torch.Tensor.double,
    torch.Tensor.bfloat16: torch.Tensor.double,
}
_KEEPS_DEVICE = {torch.Tensor.cuda, torch.Tensor.cpu}


Operation = Callable[[Callable[[Any], Any]], Any]
"""What a node is worked out by: takes what tells the value of any node, or structure of nodes, that it reads."""

NOT_ALONE = "this part of the loss does not run by itself at other values"
"""What a user is told of a share of the loss that cannot be replayed."""


class ReplayError(Exception):
    """The slice does not run at these sizes or values: a number in it is fixed. Ours to handle, never the user's fault."""


class Replay:
    """Runs slices of one record. `leaf(name)` gives real values of parameters and buffers, `make(sizes)` inputs at given sizes."""

    def __init__(
        self,
        record: Record,
        leaf: Callable[[fx.Node], torch.Tensor | None],
        make: Callable[[Mapping[str, int]], Mapping[str, torch.Tensor]],
        symbols: Mapping[str, int] | None = None,
        find_along: Callable[[str], Along | None] = lambda symbol: None,
    ) -> None:
        self._record, self._leaf, self._make = record, leaf, make
        self._symbols: Mapping[str, int] = symbols if symbols is not None else record.sizes
        self._stretches = False
        self._exchanged: Mapping[fx.Node, Operation] = {}
        self._find_along, self._known = find_along, dict[str, Along | None]()
        self._slices: dict[Any, list[fx.Node]] = {}  # nodes to run, by what is asked for and what is set

    @cached_property
    def factors(self) -> set[float]:
        """The plain numbers that values of the record are multiplied with or divided by."""
        products = (n for n in self._record.graph.nodes if ops.op(n) in ops.MUL | ops.DIV)
        return {float(a) for n in products for a in n.args if type(a) in (int, float)}

    def along(self, symbol: str) -> int | None:
        """Another size of a symbol that slices can run at, from a second run of the user's model; None where there is none."""
        if symbol not in self._known:
            self._known[symbol] = self._find_along(symbol)
        found = self._known[symbol]
        return found.new if found is not None else None

    def _moved(self, sizes: Mapping[str, int]) -> Along | None:
        """The second run that says how the record moves to these sizes."""
        if not self._known:
            return None
        moved = [a for s, a in self._known.items() if a is not None and sizes.get(s, a.old) != a.old]
        if len(moved) > 1 and not self._stretches:
            raise ReplayError("the record is known to move with one size at a time")
        return moved[0] if moved and not self._stretches else None

    @contextmanager
    def stretched(self) -> Iterator[None]:
        """Within, constants and literals of the size of a named dimension follow that dimension."""
        self._stretches = True
        try:
            yield
        finally:
            self._stretches = False

    @contextmanager
    def exchanged(self, operations: Mapping[fx.Node, Operation]) -> Iterator[None]:
        """Within, these nodes are worked out by other operations than the user's: what would hold if the code said that?"""
        before, self._exchanged = self._exchanged, operations
        try:
            yield
        finally:
            self._exchanged = before

    def _stretch(self, sizes: Mapping[str, int]) -> Mapping[int, int]:
        if not self._stretches:
            return {}
        by = size_map(self._symbols, sizes)
        if by is None:
            raise ReplayError("two dimensions have the same size and cannot be told apart")
        return by

    def size_of(self, node: fx.Node, dim: int, sizes: Mapping[str, int]) -> int:
        """The size of a node's dimension when the symbols have the given values."""
        recorded = int(node.meta["val"].shape[dim])
        moved = self._moved(sizes)
        forms = moved.dims.get(node) if moved is not None else None
        if moved is not None and forms is not None and (form := forms[dim]) is not None:
            there = form.at(sizes[moved.symbol])
            size = self._batched(node, dim, {**sizes, moved.symbol: moved.old}) * there / recorded
            if size != int(size) or size < 0:
                raise ReplayError(f"{node.name} has no whole size at {moved.symbol} = {sizes[moved.symbol]}")
            return int(size)
        return self._batched(node, dim, sizes)

    def _batched(self, node: fx.Node, dim: int, sizes: Mapping[str, int]) -> int:
        recorded = int(node.meta["val"].shape[dim])
        texts = self._record.shapes.get(node)
        if texts is None:
            return recorded
        text = texts[dim]
        if text in sizes:
            return sizes[text]
        if text.isdigit():
            return self._stretch(sizes).get(recorded, recorded)
        batch = scaled_by(text, "B", self._record.sizes.get("B", 1), sizes.get("B", self._record.sizes.get("B", 1)))
        if batch is not None and batch < 0:
            raise ReplayError(f"{node.name} has no size {text} at B = {sizes['B']}")
        return recorded if batch is None else batch

    def texts_of(self, node: fx.Node) -> tuple[str, ...]:
        """The symbolic shape of a node; empty where it is not known."""
        return self._record.shapes.get(node, ())

    def shape_of(self, node: fx.Node, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """A node's shape when the symbols have the given values."""
        return tuple(self.size_of(node, d, sizes) for d in range(node.meta["val"].dim()))

    def __call__(
        self,
        targets: list[fx.Node],
        overrides: Mapping[fx.Node, Any],
        sizes: Mapping[str, int],
        *,
        seed: int = 0,
        doubles: bool = True,
        attached: bool = False,
        even: float = 0.0,
    ) -> dict[fx.Node, Any]:
        """The values of `targets` with the nodes of `overrides` set; raises `ReplayError` when torch refuses.

        All floating point runs in double precision unless `doubles` is False; draws are seeded. With `attached`, detach() and .data
        let gradients through: for asking what a value is a function of. With `even`, all elements of an input are equal, so that
        weights and masks made of inputs do not blur how a weight moves with a size.
        """
        env: dict[fx.Node, Any] = {n: v.clone() if isinstance(v, torch.Tensor) and _overwritten(n) else v for n, v in overrides.items()}
        needed = [n for n in self._needed(targets, overrides) if n not in env]
        by, moved = self._stretch(sizes), self._moved(sizes)
        inputs: Mapping[str, torch.Tensor] = {}
        with self._surroundings(seed, doubles):
            if any(node.op == "placeholder" for node in needed):
                inputs = self._make({**sizes, **moved.inputs} if moved is not None else sizes)
            for node in needed:
                if node.op == "placeholder":
                    given = inputs[str(node.meta["input"])]
                    env[node] = self._double(_evened(given, even) if even else given, doubles)
                elif node.op == "get_attr":
                    value = stretch_value(self._constant(node), by)
                    env[node] = self._double(self._grown(node, value, moved), doubles)
                elif attached and ops.op(node) in ("detach", "data") and isinstance(source := node.args[0], fx.Node):
                    env[node] = env[source]
                else:
                    env[node] = self._call(node, env, sizes, doubles, by)
        if any(isinstance(env[t], torch_private.FakeTensor) for t in targets):
            raise ReplayError("a tensor in between was made out of sight, as by vmap, and has no values")
        return {t: env[t] for t in targets}

    @staticmethod
    @contextmanager
    def _surroundings(seed: int, doubles: bool) -> Iterator[None]:
        """Seeded draws, double precision, no warnings; what torch refuses raises `ReplayError`."""
        default = torch.get_default_dtype()
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[], device_type="cpu"):
            warnings.simplefilter("ignore")
            torch.default_generator.manual_seed(seed)  # torch.manual_seed() notes the whole stack for each kind of GPU
            if doubles:
                torch.set_default_dtype(torch.float64)
            try:
                yield
            except (
                RuntimeError,
                ValueError,
                TypeError,
                IndexError,
                ZeroDivisionError,
                AssertionError,
                KeyError,
                NotImplementedError,
                ArithmeticError,
                AttributeError,
            ) as error:
                raise ReplayError(f"{type(error).__name__}: {error}") from error
            finally:
                torch.set_default_dtype(default)

    def _needed(self, targets: list[fx.Node], overrides: Mapping[fx.Node, Any]) -> list[fx.Node]:
        """The nodes that `targets` are made of, in the order they ran. A slice is asked for many times, at other values."""
        key = (frozenset(targets), frozenset(overrides), len(self._record.graph.nodes))
        if key not in self._slices:
            self._slices[key] = self._slice(targets, overrides)
        return self._slices[key]

    def _slice(self, targets: list[fx.Node], overrides: Mapping[fx.Node, Any]) -> list[fx.Node]:
        below = reachable(overrides, lambda n: n.users)

        def sources(n: fx.Node) -> list[fx.Node]:
            if _shape_only(n) and not any(i in below for i in n.all_input_nodes):
                return []  # a size of something outside the slice: known from the record
            if (parts := self._broadcast(n)) is not None:
                return [parts[n.args[1]]]  # type: ignore[index]  # the others lend their shape
            lender = n.args[0] if _lends_shape(n) and n.args[0] not in below else None  # its values are not asked for
            return [i for i in n.all_input_nodes if i is not lender]

        seen = reachable(targets, sources, stop=overrides)
        if any(source in below for n in seen if n not in overrides for source in n.meta.get("carried", ())):
            raise ReplayError("a value in between goes through numpy or plain numbers")
        return sorted(seen, key=self._order.__getitem__)

    def _broadcast(self, node: fx.Node) -> list[fx.Node] | None:
        """The operands of the `broadcast_tensors` that a node is one result of, where their shapes are known without their values."""
        source = node.args[0] if node.target is operator.getitem else None
        if not isinstance(source, fx.Node) or ops.op(source) != "broadcast_tensors" or not isinstance(node.args[1], int):
            return None
        parts = ops.tensors(source.args)
        return parts if node.args[1] < len(parts) and all(self.texts_of(p) for p in parts) else None

    @cached_property
    def _order(self) -> dict[fx.Node, int]:
        return {n: i for i, n in enumerate(self._record.graph.nodes)}

    @staticmethod
    def _grown(node: fx.Node, value: torch.Tensor, moved: Along | None) -> torch.Tensor:
        """A parameter or buffer as the second run's model has it, where it moves with that run's size."""
        if moved is None or node not in moved.dims:
            return value
        other = moved.leaf(node)
        if other is None:
            raise ReplayError(f"no value is known for {node.target} at {moved.symbol} = {moved.new}")
        return other.detach().clone()

    def _constant(self, node: fx.Node) -> torch.Tensor:
        found = self._leaf(node)
        if found is None:
            raise ReplayError(f"no value is known for {node.target}")
        return found.detach().clone()

    def _call(self, node: fx.Node, env: dict[fx.Node, Any], sizes: Mapping[str, int], doubles: bool, by: Mapping[int, int]) -> Any:
        if any(i not in env for i in node.all_input_nodes) and (_shape_only(node) or (_lends_shape(node) and node.args[0] not in env)):
            source = node.args[0]
            assert isinstance(source, fx.Node)
            if ops.op(node) == "size":
                dim: Any = node.args[1] if len(node.args) > 1 else 0
                return self.size_of(source, int(dim), sizes)
            if ops.op(node) in ("numel", "nelement"):
                return math.prod(self.shape_of(source, sizes))
            env_like = torch.zeros(
                self.shape_of(source, sizes), dtype=torch.float64 if source.meta["val"].is_floating_point() else source.meta["val"].dtype
            )
            env = {**env, source: env_like}
            for extra in node.all_input_nodes:
                if extra not in env:
                    env[extra] = self._call(extra, env, sizes, doubles, by) if _shape_only(extra) else extra.meta.get("val")
        if (parts := self._broadcast(node)) is not None:
            shapes = [env[p].shape if p in env else self.shape_of(p, sizes) for p in parts]
            return env[parts[node.args[1]]].expand(torch.broadcast_shapes(*shapes))  # type: ignore[no-untyped-call, index]
        if node in self._exchanged:
            return self._exchanged[node](lambda value: self._resolve(value, env, sizes, doubles))
        moved = self._moved(sizes)
        given = moved.literals.get(node) if moved is not None else None
        given_args, given_kwargs = given if given is not None else (node.args, dict(node.kwargs))
        args, kwargs = self._resolve(given_args, env, sizes, doubles), self._resolve(given_kwargs, env, sizes, doubles)
        if by:
            args = stretch_literals(node, args, by)
        target: Any = node.target
        if target in _KEEPS_DEVICE:
            return args[0]
        if doubles:
            target = _CASTS.get(target, target)
        if target is torch.Tensor.new and len(args) == 2 and isinstance(args[1], tuple):
            args = (args[0], torch.Size(args[1]))  # a bare tuple would be taken for data
        return _given_back(node, args, target(*args, **kwargs))

    def _resolve(self, value: Any, env: Mapping[fx.Node, Any], sizes: Mapping[str, int], doubles: bool) -> Any:
        if isinstance(value, fx.Node):
            return env[value]
        if isinstance(value, Growth):
            moved = self._moved(sizes)
            return value.at(sizes[moved.symbol]) if moved is not None else float(value)
        if isinstance(value, SymbolPower):
            return value.at(sizes.get(value.symbol, self._record.sizes[value.symbol]))
        if isinstance(value, tuple):
            return tuple(self._resolve(v, env, sizes, doubles) for v in value)
        if isinstance(value, list):
            return [self._resolve(v, env, sizes, doubles) for v in value]
        if isinstance(value, dict):
            return {k: self._resolve(v, env, sizes, doubles) for k, v in value.items()}
        if isinstance(value, slice):
            return slice(*(self._resolve(v, env, sizes, doubles) for v in (value.start, value.stop, value.step)))
        if doubles and isinstance(value, torch.dtype) and value in _FLOATS:
            return torch.float64
        if isinstance(value, torch.device):
            return torch.device("cpu")
        if isinstance(value, str) and (value == "cuda" or value.startswith("cuda:")):
            return "cpu"
        return value

    @staticmethod
    def _double(value: torch.Tensor, doubles: bool) -> torch.Tensor:
        return value.double() if doubles and value.is_floating_point() else value


def _given_back(node: fx.Node, args: Any, result: Any) -> Any:
    """What an operation is the value of: what it returns, or the tensor that it has changed."""
    if result is None and ops.op(node) == "grad" and isinstance(node.meta.get("val"), torch.Tensor):
        return torch.zeros_like(args[0])  # what another pass left on a weight: here nothing has been passed back yet
    return result if node.target is effect or not node.meta.get("returns_none") else args[0]


def gradients(out: torch.Tensor, leaves: list[torch.Tensor], *, retain: bool = False) -> list[torch.Tensor | None]:
    """d sum(out) / d leaf for each leaf, None where it does not depend on it; raises `ReplayError` when autograd refuses."""
    try:
        return list(torch.autograd.grad(out.sum(), leaves, retain_graph=retain, allow_unused=True))
    except RuntimeError as error:  # the user's own changes in place, among others
        raise ReplayError(message_of(error).splitlines()[0]) from error


def _overwritten(node: fx.Node) -> bool:
    """Whether the recorded code changes a value in place: what stands for it is the caller's, and stays as it is."""
    return any(ops.changes_in_place(ops.raw_name(u)) and u.args and u.args[0] is node for u in node.users)


def _evened(value: torch.Tensor, share: float) -> torch.Tensor:
    """All elements equal, a share of the largest value: a mask lets through, a token is no padding."""
    if not value.numel() or value.dtype == torch.bool:
        return torch.ones_like(value)
    top = value.max().item()
    return torch.full_like(value, share * top if value.is_floating_point() else top)


def _lends_shape(node: fx.Node) -> bool:
    """Whether the first operand gives its shape, type or device and no values: `x.new(...)`, `torch.zeros_like(x)`."""
    return (
        node.op == "call_function"
        and ops.op(node) in ops.SHAPE_FROM_FIRST
        and bool(node.args)
        and isinstance(node.args[0], fx.Node)
        and isinstance(node.args[0].meta.get("val"), torch.Tensor)
    )


def _shape_only(node: fx.Node) -> bool:
    return (
        node.op == "call_function"
        and ops.op(node) in ops.SHAPE_FROM_FIRST
        and not any(n is not node.args[0] for n in ops.value_inputs(node))
    )
