"""Which axes of its operands a layer or product sums over, and where the others stand in its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any

import torch
from torch import fx

from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import shape


def _lead(labels: torch.Tensor, rank: int) -> torch.Tensor:
    return labels.reshape([1] * (rank - labels.dim()) + list(labels.shape)) if labels.dim() < rank else labels


@dataclass
class Plan:
    """`operands`: each with the axes that are summed over. `place` puts what is left where it stands in the result."""

    operands: list[tuple[fx.Node, tuple[int, ...]]]
    place: Callable[[int, torch.Tensor], torch.Tensor]  # of the operand at a position
    time: frozenset[int] = frozenset()  # of `operands[0]`: the axis that a recurrence or attention runs over
    results: Callable[[torch.Tensor], tuple[Any, ...]] = field(default=lambda labels: (labels, labels))


def contracted(node: fx.Node) -> Plan | None:
    """The plan of a node; None for operations that are not modelled."""
    name = ops.op(node)
    ins = ops.value_inputs(node)
    if not ins:
        return None
    first, rank = ins[0], len(shape(ins[0]))
    out = len(shape(node))
    if name in ("linear", "layer_norm", "rms_norm", "pad"):
        return Plan([(first, _padded_axes(node, rank) if name == "pad" else (rank - 1,))], lambda _, labels: labels)
    if name.startswith("conv"):
        weight = node.args[1] if len(node.args) > 1 else None
        batched = isinstance(weight, fx.Node) and len(shape(weight)) == rank
        return Plan([(first, tuple(range(1 if batched else 0, rank)))], lambda _, labels: labels)
    if "pool" in name or name in (
        "interpolate",
        "pixel_shuffle",
        "pixel_unshuffle",
        "upsample",
        "unfold",
        "fold",
        "grid_sample",
        "group_norm",
        "instance_norm",
        "local_response_norm",
    ):
        return Plan(
            [(first, tuple(range(1, rank)))],
            lambda _, labels: labels if labels.dim() == out or not out else labels.reshape([labels.shape[0]] + [1] * (out - 1)),
        )
    if name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        return _recurrent(node, name)
    if name in ("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"):
        states = ops.tensors(node.args[1])
        return Plan([(n, (len(shape(n)) - 1,)) for n in (first, *states)], lambda _, labels: labels)
    if name == "multi_head_attention_forward":
        return _attention_layer(node)
    if name == "scaled_dot_product_attention":
        return Plan([(n, (len(shape(n)) - 2, len(shape(n)) - 1)) for n in ins[:3]], lambda _, labels: _lead(labels, out))
    if name in ("matmul", "bmm", "mm", "rmatmul", "mv", "dot"):
        pair = ins[:2] if name != "rmatmul" else ins[1::-1]
        return _product(pair, out) if len(pair) == 2 else None
    if name in ("addmm", "baddbmm") and len(ins) == 3:
        return _product(ins[1:], out)
    if name == "cdist" and len(ins) > 1 and ins[0] is not ins[1]:  # of one set with itself all pairs are meant
        return Plan([(n, (len(shape(n)) - 1,)) for n in ins[:2]], lambda at, labels: _lead(labels if at == 0 else labels.mT, out))
    if name == "einsum" and isinstance(node.args[0], str):
        return _einsum(node)
    return None


def _padded_axes(node: fx.Node, rank: int) -> tuple[int, ...]:
    """The axes, but for the first, that are made longer or shorter: entries of the others stay where they are."""
    amounts = node.kwargs.get("pad", node.args[1] if len(node.args) > 1 else ())
    if not isinstance(amounts, list | tuple):
        return tuple(range(1, rank))
    pairs = [amounts[i : i + 2] for i in range(0, len(amounts), 2)]
    return tuple(a for i, both in enumerate(pairs) if (a := rank - 1 - i) > 0 and any(both))


def _product(pair: list[fx.Node], out: int) -> Plan | None:
    a, b = pair
    if a is b:
        return None  # a Gram matrix: pairs are meant
    ra, rb = len(shape(a)), len(shape(b))
    if ra < 1 or rb < 1:
        return None

    def place(position: int, labels: torch.Tensor) -> torch.Tensor:
        if position == 0:
            return _lead(labels if rb > 1 else labels.squeeze(-1), out)
        if rb == 1:
            return torch.full([1] * out, -1, dtype=labels.dtype)
        return _lead(labels if ra > 1 else labels.squeeze(-2), out)

    return Plan([(a, (ra - 1,)), (b, (max(rb - 2, 0),))], place)


def _recurrent(node: fx.Node, name: str) -> Plan | None:
    first = node.args[0]
    if not isinstance(first, fx.Node) or not isinstance(node.args[2], list | tuple):
        return None  # a packed sequence
    rank = len(shape(first))
    batch_first = bool(node.args[8]) if len(node.args) > 8 else bool(node.kwargs.get("batch_first"))
    time = 0 if rank == 2 or not batch_first else 1
    states = ops.tensors(node.args[1])
    operands: list[tuple[fx.Node, tuple[int, ...]]] = [(first, (time, rank - 1)), *((s, (0, len(shape(s)) - 1)) for s in states)]

    def place(position: int, labels: torch.Tensor) -> torch.Tensor:
        if position == 0 or rank == 2:
            return labels.reshape([-1]) if rank > 2 else labels.reshape([1])
        return labels.reshape([-1])

    def results(labels: torch.Tensor) -> tuple[Any, ...]:
        if rank == 2:
            return (labels.reshape(1, 1),) * 3
        state = labels.reshape(1, -1, 1)
        return (labels.reshape(-1, 1, 1) if time == 1 else state, state, state)

    return Plan(operands, place, frozenset({time}), results)


def _attention_layer(node: fx.Node) -> Plan | None:
    """Query, key and value are (time, batch, features), or (time, features) without a batch."""
    qkv = [a for a in node.args[:3] if isinstance(a, fx.Node)]
    if len(qkv) != 3:
        return None
    rank = len(shape(qkv[0]))

    def results(labels: torch.Tensor) -> tuple[Any, ...]:
        return (labels, labels.reshape(-1, 1, 1) if rank == 3 else labels)

    return Plan([(n, (0, rank - 1)) for n in dict.fromkeys(qkv)], lambda _, labels: labels, frozenset({0}), results)


def _einsum(node: fx.Node) -> Plan | None:
    equation = str(node.args[0]).replace(" ", "")
    operands = ops.tensors(node.args[1:])
    if "->" not in equation or "." in equation:
        return None
    left, right = equation.split("->")
    letters = left.split(",")
    if len(letters) != len(operands):
        return None

    def place(position: int, labels: torch.Tensor) -> torch.Tensor:
        mine = letters[position]
        kept = [c for c in mine if c in right]
        labels = labels.reshape([n for c, n in zip(mine, labels.shape, strict=True) if c in right])
        ordered = sorted(kept, key=right.index)
        labels = labels.permute([kept.index(c) for c in ordered])
        return labels.reshape([labels.shape[ordered.index(c)] if c in ordered else 1 for c in right])

    return Plan([(n, tuple(i for i, c in enumerate(own) if c not in right)) for n, own in zip(operands, letters, strict=True)], place)
