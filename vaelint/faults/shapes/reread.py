"""A reshape that reads one axis as another: the sizes are those of a permutation, and the memory stays in its order.

A value that was repeated as a whole has an axis of repetitions in front of its own: what reads that axis behind its own gives each place
another entry, in turn, where all places were to have the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import fx

from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import shape

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_VIEWS = frozenset({"view", "reshape", "flatten", "unflatten", "view_as", "reshape_as", "ravel"})


@dataclass(frozen=True)
class Reread:
    """A change of shape, the value whose axes it exchanges, and the permutation that its sizes ask for; none of a repeated value."""

    node: fx.Node
    source: fx.Node
    order: tuple[int, ...] = ()


def reread(model: Model) -> list[Reread]:
    """VAE114: changes of shape, one after another as well, that give the axes of a sample in another order."""
    found: list[Reread] = []
    for node in model.record.nodes:
        if ops.op(node) not in _VIEWS or node not in model.flow.data:
            continue
        for source in _before(node):
            order = _order(_sizes(model, source), _sizes(model, node))
            if order is not None:
                found.append(Reread(node, source, order))
                break
            if _reads_repeats_last(source, node):
                found.append(Reread(node, source))
                break
    return found


def _reads_repeats_last(repeated: fx.Node, node: fx.Node) -> bool:
    """Whether `(B, C)`, repeated along its last axis, is read as `(B, C, places)`: in memory the repetitions come first."""
    inner = repeated.args[0] if ops.op(repeated) in ("repeat", "tile") and repeated.args else None
    if not isinstance(inner, fx.Node) or len(shape(inner)) < 2 or shape(repeated)[:-1] != shape(inner)[:-1]:
        return False
    front, size, after = shape(inner)[:-1], shape(inner)[-1], shape(node)
    times, last = shape(repeated)[-1] // max(size, 1), len(front)
    if after[:last] != front or len(after) < last + 2 or size < 2 or times < 2:
        return False
    return after[last] == size and math.prod(after[last + 1 :]) == times and after[-1] != size


def _before(node: fx.Node) -> Iterator[fx.Node]:
    """The values that a chain of changes of shape began with, nearest first."""
    while ops.op(node) in _VIEWS and isinstance(source := node.args[0] if node.args else None, fx.Node):
        yield source
        node = source


def _sizes(model: Model, node: fx.Node) -> tuple[str, ...]:
    """The sizes as numbers, whatever name each has, and the batch as `B`."""
    return tuple("B" if "B" in text else str(n) for text, n in zip(model.dims(node), shape(node), strict=True))


def _order(before: tuple[str, ...], after: tuple[str, ...]) -> tuple[int, ...] | None:
    """Which axis of `before` each of `after` has the size of; None unless it is a permutation, and not of axes of size 1 or of samples."""
    if len(before) < 3 or sorted(before) != sorted(after):
        return None
    if [d for d in before if d != "1"] == [d for d in after if d != "1"]:
        return None
    batches = [[i for i, d in enumerate(dims) if d == "B"] for dims in (before, after)]
    if batches[0] != batches[1]:
        return None  # samples are mixed, of which VAE103 speaks
    free, order = list(range(len(before))), []
    for size in after:
        order.append(next(i for i in free if before[i] == size))
        free.remove(order[-1])
    return tuple(order)
