"""Two runs at two batch sizes, laid side by side: what moves with the batch is `B`, what stays is a number."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from vaelint.record import ops
from vaelint.record.record import Record


def lift(record: Record, other: Record, symbol: str = "B") -> bool:
    """Writes symbolic shapes into `record.shapes` and turns literals that move with `symbol` into expressions of it.

    Returns False, and changes nothing, when the two runs did not take the same path. Both records must have run without failure.
    """
    mine, theirs = record.nodes, other.nodes
    if len(mine) != len(theirs) or not all(map(alike, mine, theirs)):
        return False
    if not _lay(record, list(zip(mine, theirs, strict=True)), other.sizes[symbol], symbol):
        return False
    record.lifted = True
    return True


def mark_timed(record: Record, earlier: Record) -> None:
    """Marks the operations whose numbers were others in an earlier run at the same batch size: they move with time, not with the batch.

    A weight of step / 1000 doubles from the second step to the third, as one over the batch does where that is halved.
    """
    before = _by_place(earlier)
    for place, nodes in _by_place(record).items():
        for node, twin in zip(nodes, before.get(place, ()), strict=False):
            if len(nodes) == len(before[place]) and _numbers(node) != _numbers(twin):
                node.meta["timed"] = True


def _by_place(record: Record) -> dict[Any, list[fx.Node]]:
    """The operations of a run by what they are and where they stand. A first run makes some that later ones have already."""
    found: dict[Any, list[fx.Node]] = {}
    for node in record.nodes:
        if node.op == "call_function":
            found.setdefault((node.target, node.meta.get("stack", ())), []).append(node)
    return found


def _numbers(node: fx.Node) -> list[int | float]:
    found: list[int | float] = []

    def note(value: Any) -> Any:
        if isinstance(value, int | float):
            found.append(value)
        return value

    fx.node.map_aggregate((node.args, dict(node.kwargs)), note)
    return found


def lift_ends(record: Record, other: Record, symbol: str = "B") -> None:
    """The same for runs that differ in the middle, such as a loop over the samples: what runs before and after it is laid side by side.

    Sizes in the middle are plain numbers, but for one that is the batch's and stays nowhere, such as where a modality is left out at
    random. `record.lifted` stays False: where a value in the middle belongs in the batch is not known.
    """
    mine, theirs = record.nodes, other.nodes
    short = min(len(mine), len(theirs))
    head = next((i for i in range(short) if not alike(mine[i], theirs[i])), short)
    tail = next(
        (i for i in range(short - head) if not alike(mine[-1 - i], theirs[-1 - i]) or _another_sample(mine[-1 - i], theirs[-1 - i])),
        short - head,
    )
    pairs = [*zip(mine[:head], theirs[:head], strict=True), *zip(mine[len(mine) - tail :], theirs[len(theirs) - tail :], strict=True)]
    batch = record.sizes[symbol]
    fixed = any(p == q == batch for a, b in pairs for p, q in zip(_sizes(a), _sizes(b), strict=False))
    for node in mine[head : len(mine) - tail]:
        if isinstance(node.meta.get("val"), torch.Tensor):
            record.shapes[node] = tuple(symbol if n == batch and not fixed else str(n) for n in _sizes(node))
    if not _lay(record, pairs, other.sizes[symbol], symbol):
        record.shapes.clear()


def _sizes(node: fx.Node) -> tuple[int, ...]:
    val = node.meta.get("val")
    return tuple(val.shape) if isinstance(val, torch.Tensor) else ()


def alike(a: fx.Node, b: fx.Node) -> bool:
    """Whether two nodes of two runs are the same operation."""
    return a.op == b.op and (a.op != "call_function" or a.target is b.target)


def _another_sample(a: fx.Node, b: fx.Node) -> bool:
    """Whether both select, but not the same: the last turns of a loop over the samples."""
    return a.target is operator.getitem and isinstance(a.args[1], int) and a.args[1] != b.args[1]


def _lay(record: Record, pairs: list[tuple[fx.Node, fx.Node]], m: int, symbol: str) -> bool:
    """Symbolic shapes and moving literals of nodes that are the same in both runs; False where they are not."""
    n = record.sizes[symbol]
    moving: list[tuple[fx.Node, Any]] = []
    picked: dict[fx.Node, set[tuple[int, int]]] = {}  # sizes of what is made of rows that values chose, in both runs
    for a, b in pairs:
        val, twin = a.meta.get("val"), b.meta.get("val")
        if isinstance(val, torch.Tensor) and isinstance(twin, torch.Tensor):
            if val.dim() != twin.dim():
                return False
            sizes = list(zip(val.shape, twin.shape, strict=True))
            counted = {pair for source in a.all_input_nodes for pair in picked.get(source, ())}
            counted |= {(p, q) for p, q in sizes[:1] if p != q and (p, q) != (n, m) and _picks_by_value(a)}
            if counted:
                picked[a] = counted
            record.shapes[a] = tuple(f"~{symbol}" if (p, q) in counted else dim_text(p, q, n, m, symbol) for p, q in sizes)
        if a.op == "call_function" and not a.meta.get("timed"):
            args = _literals(a.args, b.args, record, n, m, symbol)
            kwargs = _literals(dict(a.kwargs), dict(b.kwargs), record, n, m, symbol)
            if args is not a.args or kwargs != dict(a.kwargs):
                moving.append((a, (args, kwargs)))
    for node, (args, kwargs) in moving:
        node.args, node.kwargs = args, kwargs
        node.meta["moving"] = True
    return True


def _picks_by_value(node: fx.Node) -> bool:
    """Whether it depends on values how many entries the result has: a mask as an index."""
    if ops.op(node) in ("nonzero", "masked_select", "unique", "argwhere"):
        return True
    given = ops.tensors(node.args[1:]) if ops.op(node) in ("getitem", "index") else []
    return any(n.meta["val"].dtype is torch.bool for n in given if isinstance(n.meta.get("val"), torch.Tensor))


def dim_text(p: int, q: int, n: int, m: int, symbol: str) -> str:
    """A size that was `p` at `symbol = n` and `q` at `symbol = m`: `20`, `B`, `3*B`, `B+1`, `B//2`."""
    if p == q:
        return str(p)
    if p * m == q * n:
        factor = p / n
        return symbol if factor == 1 else f"{int(factor)}*{symbol}" if factor == int(factor) else f"{symbol}/{n / p:g}"
    if p - n == q - m:
        return f"{symbol}{p - n:+d}"
    if n * n == p and m * m == q:
        return f"{symbol}*{symbol}"
    return f"~{symbol}"  # it moves with the batch in a way of its own


def scaled_by(text: str, symbol: str, old: int, new: int) -> int | None:
    """The value of a size given by `dim_text`, with `symbol` at `new`; None if it has no closed form."""
    if text == symbol:
        return new
    if text.isdigit():
        return int(text)
    if text.endswith(f"*{symbol}") and text.split("*")[0].isdigit():
        return int(text.split("*")[0]) * new
    if text.startswith(symbol) and text[len(symbol) : len(symbol) + 1] in ("+", "-"):
        return new + int(text[len(symbol) :])
    if text == f"{symbol}*{symbol}":
        return new * new
    if text.startswith(f"{symbol}/"):
        return max(1, round(new / float(text.split("/")[1])))
    return None


def _literals(a: Any, b: Any, record: Record, n: int, m: int, symbol: str) -> Any:
    """Arguments with each literal that moved between the runs replaced by an expression of the symbol."""
    if isinstance(a, fx.Node | bool) or type(a) is not type(b):
        return a
    if isinstance(a, int | float):
        if a == b:
            return a
        for power in (1, -1, 2, -2):
            if a != 0 and b != 0 and abs(a / b - (n / m) ** power) < 1e-9:
                return SymbolPower(symbol, power, a / n**power, a)
        return a
    if isinstance(a, tuple):
        new = tuple(_literals(x, y, record, n, m, symbol) for x, y in zip(a, b, strict=False)) if len(a) == len(b) else a
        return a if all(x is y for x, y in zip(new, a, strict=True)) else new
    if isinstance(a, list):
        return [_literals(x, y, record, n, m, symbol) for x, y in zip(a, b, strict=False)] if len(a) == len(b) else a
    if isinstance(a, dict):
        return {k: _literals(v, b.get(k), record, n, m, symbol) for k, v in a.items()}
    return a


class SymbolPower(float):
    """A literal of the record that moves with a symbol: `factor * symbol**power`. Its float value is that of the recorded run."""

    symbol: str
    power: int
    factor: float

    def __new__(cls, symbol: str, power: int, factor: float, at: float | int) -> SymbolPower:
        self = super().__new__(cls, at)
        self.symbol, self.power, self.factor = symbol, power, factor
        return self

    def in_a_run(self, sizes: Mapping[str, int]) -> SymbolPower:
        """The same literal in the record of another run."""
        known = self.symbol in sizes
        return SymbolPower(self.symbol, self.power, self.factor, self.at(sizes[self.symbol])) if known else self

    def at(self, size: int) -> float | int:
        """The literal when the symbol has this value; an int where it is whole."""
        return self._plain(self.factor * float(size) ** self.power)

    @property
    def now(self) -> float | int:
        """The literal as it is in its record; an int where it is whole."""
        return self._plain(float(self))

    def _plain(self, value: float) -> float | int:
        return round(value) if abs(value - round(value)) < 1e-9 and self.power > 0 else value
