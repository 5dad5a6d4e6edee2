"""Feature maps that are cut into rows for a codebook without moving the channels last."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.posterior.codebooks import Codebook, codebooks_of
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.record.walk import back, behind
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_MOVES = ops.SHAPE | ops.CAST | {"detach", "data", "effect"}
_FOLDS = frozenset({"view", "reshape", "flatten", "view_as", "reshape_as"})
_KEEPS_CHANNELS = ops.POINTWISE | {"batch_norm", "group_norm", "instance_norm", "effect"}


@dataclass(frozen=True)
class CodeRows:
    """`rows` is compared with codes of as many numbers as `origin` has channels; `fold` put several places of one channel into a row."""

    origin: fx.Node
    fold: fx.Node
    rows: fx.Node
    codebook: Codebook


def code_rows(model: Model) -> list[CodeRows]:
    """VAE112: one for each fold. Codes as long as a channel's whole map, or a line of it, may be meant for these, and are left alone."""
    found: dict[fx.Node, CodeRows] = {}
    for book in codebooks_of(model):
        above = model.flow.ancestors(book.index)
        for rows in model.flow.sorted({n for n in above if ops.op(n) in _MOVES and len(shape(n)) in (2, 3)}):
            if any(u in above and ops.op(u) in _MOVES for u in model.flow.users.get(rows, ())):
                continue
            origin, folds = _origin(rows)
            size = shape(origin)
            if not folds or len(size) < 3 or shape(rows)[-1] != size[1] or not _is_map(origin):
                continue
            if size[1] in (math.prod(size[2:]), size[-1]) or not any(shape(rows)[-1] in shape(t) for t in book.table):
                continue
            if _cut(model, origin, rows):
                found.setdefault(folds[0], CodeRows(origin, folds[0], rows, book))
    return list(found.values())


def _origin(rows: fx.Node) -> tuple[fx.Node, list[fx.Node]]:
    """What a value is a rearrangement of, and the views on the way, the first one first."""
    *way, origin = back(rows, _MOVES)
    return origin, [n for n in reversed(way) if ops.op(n) in _FOLDS]


def _is_map(node: fx.Node) -> bool:
    """Whether a value comes out of a convolution: its channels are on axis 1."""
    return ops.op(behind(node, _KEEPS_CHANNELS)).startswith("conv")


def _cut(model: Model, origin: fx.Node, rows: fx.Node) -> bool:
    """Whether no row holds one value of each channel."""
    sizes = dict(model.record.sizes)
    size = model.replay.shape_of(origin, sizes)
    numbers = torch.arange(size[1], dtype=torch.float64).reshape([-1 if d == 1 else 1 for d in range(len(size))]).expand(size).clone()
    try:
        got = model.replay([rows], {origin: numbers}, sizes)[rows].reshape(-1, size[1])
    except (ReplayError, RuntimeError):
        return False
    return bool((got.sort(1).values != torch.arange(size[1])).any(1).all())
