"""Loops of the user's own over the first axis of a tensor: what is called the batch and taken step by step is time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.per_model import per_model

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_WHOLE = slice(None)


@per_model
def walked_rows(model: Model) -> list[fx.Node]:
    """Tensors made of the data, with the batch first, of which every entry along it, but for one, is read or written by a plain number.

    `for t in range(len(h)): h[t]`, `for h_t in h`, and `z[t, :, :] = z_t`. What takes a second number besides (`h[i, length - 1]`) picks a
    step of each sample, and is no such walk.
    """
    batch = model.inputs.batch
    size = model.record.sizes.get(batch or "", 0)
    if batch is None or size < 2:
        return []
    rows: dict[fx.Node, set[int]] = {}
    taken = [n.args[0] for n in model.record.graph.nodes if _is_iterated(n, size) and n.args[0] in model.flow.data]
    for node in model.record.graph.nodes:
        at = _row(node)
        if at is None or shape(node.args[0])[:1] != (size,) or not _of_data(model, node):
            continue
        rows.setdefault(_first(node.args[0]), set()).add(at % size)
    return [*taken, *(node for node, seen in rows.items() if len(seen) >= max(size - 1, 2)), *_shifted(model, size)]


def _is_iterated(node: fx.Node, size: int) -> bool:
    """Whether a loop goes over the first axis itself: `for x_t in x`."""
    return ops.op(node) == "unbind" and isinstance(node.args[0], fx.Node) and shape(node.args[0])[:1] == (size,) and _axis(node) == 0


def _shifted(model: Model, size: int) -> list[fx.Node]:
    """Tensors of the data that are moved by one entry along the first axis, another in the place that is left: steps and those before."""
    found = []
    for node in model.record.graph.nodes:
        if ops.op(node) not in ("cat", "concat", "concatenate") or shape(node)[:1] != (size,) or _axis(node) != 0:
            continue
        for part in ops.value_inputs(node):
            index = part.args[1] if ops.op(part) == "getitem" and len(part.args) > 1 else None
            first = index[0] if isinstance(index, tuple) and index else index
            if isinstance(first, slice) and shape(part)[:1] == (size - 1,) and _of_data(model, part):
                found.append(node)
    return found


def _axis(node: fx.Node) -> object:
    """Along which axis tensors are joined."""
    return node.kwargs.get("dim", node.kwargs.get("axis", node.args[1] if len(node.args) > 1 else 0))


def _row(node: fx.Node) -> int | None:
    """The number by which an operation takes or fills one entry along the first axis."""
    if node.op != "call_function" or not node.args or not isinstance(node.args[0], fx.Node):
        return None
    if ops.op(node) == "select":
        axis, at = (*node.args[1:], node.kwargs.get("dim"), node.kwargs.get("index"))[:2]
        return at if axis == 0 and type(at) is int else None
    if ops.op(node) not in ("getitem", "setitem") or len(node.args) < 2:
        return None
    index = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
    rest = all(i is Ellipsis or (isinstance(i, slice) and i == _WHOLE) for i in index[1:])  # an array compares entry by entry
    return index[0] if index and type(index[0]) is int and rest else None


def _of_data(model: Model, node: fx.Node) -> bool:
    """Whether what is read, or written, is made of the inputs."""
    value = node.args[2] if ops.op(node) == "setitem" and len(node.args) > 2 else node.args[0]
    return isinstance(value, fx.Node) and value in model.flow.data


def _first(node: fx.Node) -> fx.Node:
    """The tensor that is filled entry by entry, before its first change."""
    while ops.op(node) == "effect" and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node
