"""Which operation between a term and the loss sums or averages over a dimension, told by the shapes before and after it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from torch import fx

from vaelint.core.reach import walked
from vaelint.record import ops
from vaelint.record.record import Record, shape
from vaelint.trace.lift import SymbolPower

_REDUCES = ops.LINEAR_REDUCE | ops.LOSSES | {"einsum"}
_AVERAGES = frozenset({"mean", "nanmean"})


def summing(chain: Iterable[fx.Node], record: Record, symbol: str) -> fx.Node | None:
    """The innermost operation of a chain (outermost first) that sums over the dimension."""
    return next((n for n in reversed(list(chain)) if _removes(n, record, symbol) and not _averages(n)), None)


def averaging(chain: Iterable[fx.Node], record: Record, symbols: Collection[str]) -> fx.Node | None:
    """The innermost mean over one of the dimensions, else the outermost division by the size of one."""
    nodes = list(chain)
    means = (n for n in reversed(nodes) if _averages(n) and any(_removes(n, record, s) for s in symbols))
    return next(means, None) or next((n for n in nodes if divides_by(n, record, symbols)), None)


def averaging_more(chain: Iterable[fx.Node], record: Record) -> fx.Node | None:
    """The innermost mean over more than the batch, where the shapes' texts have lost the names of the dimensions."""
    batch = record.sizes.get("B", 1)
    return next((n for n in reversed(list(chain)) if _averages(n) and _terms(n) > batch), None)


def _terms(node: fx.Node) -> float:
    """How many elements of its first operand make one of a reduction."""
    given = next(iter(ops.value_inputs(node)), node)
    return math.prod(shape(given)) / max(1, math.prod(shape(node)))


def outermost_average(chain: Iterable[fx.Node], record: Record, symbol: str) -> fx.Node | None:
    """The outermost mean over the dimension, or division by its size."""
    return next((n for n in chain if divides_by(n, record, {symbol}) or (_averages(n) and _removes(n, record, symbol))), None)


def keeps_another(node: fx.Node, record: Record) -> bool:
    """Whether a reduction over the batch leaves a dimension of the latent's own."""
    after = record.shapes.get(node, ())
    return _removes(node, record, "B") and any(t != "1" for t in after)


def divides_by(node: fx.Node, record: Record, symbols: Collection[str]) -> bool:
    """Whether a product or quotient holds a number that was worked out from the size of such a dimension."""
    if ops.op(node) not in ops.MUL | ops.DIV:
        return False
    for arg in (*node.args, *node.kwargs.values()):
        if isinstance(arg, SymbolPower) and arg.symbol in symbols:
            return True
        if isinstance(arg, fx.Node) and arg.meta.get("scalar") and _sizes_in(arg, record) & set(symbols):
            return True
    return False


def _sizes_in(number: fx.Node, record: Record) -> set[str]:
    """The dimensions whose sizes a plain number is made of."""
    found: set[str] = set()
    asked = ("size", "numel", "nelement")
    for node in walked([number], lambda n: n.all_input_nodes if n.meta.get("scalar") and ops.op(n) not in asked else ()):
        if ops.op(node) in asked:
            texts = record.shapes.get(node.all_input_nodes[0], ())
            dim = node.args[1] if len(node.args) > 1 else None
            found.update([texts[dim]] if isinstance(dim, int) and -len(texts) <= dim < len(texts) else texts)
    return found


def _averages(node: fx.Node) -> bool:
    return ops.op(node) in _AVERAGES or (ops.op(node) in ops.LOSSES and node.kwargs.get("reduction", "mean") in ("mean", "batchmean"))


def _removes(node: fx.Node, record: Record, symbol: str) -> bool:
    """Whether the dimension is there before a reduction and not after it."""
    if ops.op(node) not in _REDUCES:
        return False
    before = [t for n in ops.value_inputs(node) for t in record.shapes.get(n, ())]
    return any(symbol in _parts(t) for t in before) and not any(symbol in _parts(t) for t in record.shapes.get(node, ()))


def _parts(text: str) -> list[str]:
    return text.replace("//", "*").replace("/", "*").replace("+", "*").replace("-", "*").lstrip("~").split("*")
