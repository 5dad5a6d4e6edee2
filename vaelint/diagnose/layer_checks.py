"""Shapes that a recurrent layer refuses by its own check: nothing was computed yet, there is only what the layer was given."""

from __future__ import annotations

import re

import torch
from torch import fx

from vaelint.core.messages import message_of
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import Failure, Record, shape

_SIZES = re.compile(r"Expected (?:hidden size |hidden\[\d\] size )?[\[(]?([\d, ]+)[\])]?, got [\[(]?([\d, ]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Refused:
    """A recurrent layer was given `operand`; along its last axis it takes `wanted` features."""

    layer: torch.nn.RNNBase
    operand: fx.Node
    wanted: int


def refused_by_layer(record: Record, failure: Failure) -> Refused | None:
    """The value that a recurrent layer refused, told by its shape: the last that was computed with it. None for any other failure."""
    if failure.fn is not None or failure.module is None or not isinstance(failure.error, RuntimeError | ValueError):
        return None
    try:
        layer = record.model.get_submodule(failure.module)
    except AttributeError:
        return None
    said = _SIZES.search(message_of(failure.error))
    if not isinstance(layer, torch.nn.RNNBase) or said is None:
        return None
    wanted, got = ([int(n) for n in text.replace(" ", "").split(",") if n] for text in said.groups())
    if not wanted or len(wanted) != len(got) or wanted[-1] == got[-1]:
        return None  # another batch size, or another number of layers
    made = [n for n in record.nodes if n.op != "get_attr" and _ends_with(n, got)]
    return Refused(layer, made[-1], wanted[-1]) if made else None


def _ends_with(node: fx.Node, sizes: list[int]) -> bool:
    size = shape(node)
    return bool(size) and not node.meta.get("scalar") and ops.op(node) != "effect" and list(size[-len(sizes) :]) == sizes
