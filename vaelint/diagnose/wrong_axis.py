"""A layer that gets a part of a value that was split along another axis than the one the layer reads."""

from __future__ import annotations

from torch import fx

from vaelint.core.reach import walked
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import shape

_SPLITS = frozenset({"chunk", "split", "split_with_sizes", "tensor_split"})
_SAME_PLACES = ops.POINTWISE | {"effect", "detach", "data", "expand"}


@dataclass(frozen=True)
class WrongAxis:
    """`cut` splits `source` along `axis`; along `fitting` each part would have the size that the layer takes."""

    cut: fx.Node
    source: fx.Node
    part: fx.Node
    axis: int
    fitting: int


def split_along_wrong_axis(operand: fx.Node, read: int, wanted: int) -> WrongAxis | None:
    """The split behind a layer's operand that left the axis `read` whole where a part of it has the `wanted` size.

    Only what keeps every element in its place lies between: the axis that the layer reads is the axis that should have been split.
    """
    size = shape(operand)

    def split(node: fx.Node) -> fx.Node | None:
        cut = node.args[0] if ops.op(node) == "getitem" else None
        return cut if isinstance(cut, fx.Node) and ops.op(cut) in _SPLITS else None

    def sources(node: fx.Node) -> list[fx.Node]:
        passes = split(node) is None and ops.op(node) in _SAME_PLACES
        return [n for n in ops.value_inputs(node) if passes and shape(n) == size]

    judged = (_judge(cut, node, read % len(size), wanted) for node in walked([operand], sources) if (cut := split(node)) is not None)
    return next((found for found in judged if found is not None), None)


def _judge(cut: fx.Node, part: fx.Node, read: int, wanted: int) -> WrongAxis | None:
    source = ops.value_inputs(cut)[0]
    whole, piece = shape(source), shape(part)
    split = [d for d, (n, m) in enumerate(zip(whole, piece, strict=True)) if n != m]
    if len(split) != 1 or split[0] == read or not piece[split[0]]:
        return None
    parts = -(-whole[split[0]] // piece[split[0]])
    fits = wanted in (piece[split[0]], whole[read] // parts) and 0 < wanted < whole[read]
    return WrongAxis(cut, source, part, split[0], read) if fits else None
