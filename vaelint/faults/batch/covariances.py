"""Second moments over the batch: what the posterior's means are centred by, and diagonals that pair samples with features."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.loss.logsums import posterior_values
from vaelint.faults.batch.mixing import batch_of
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.record.walk import back
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_TURNS = frozenset({"t", "T", "mT", "transpose", "swapaxes", "swapdims", "permute", "adjoint", "H", "contiguous", "clone"})
_OF_ROWS = frozenset({"cov", "corrcoef"})  # their variables are the rows
_DIAGONALS = frozenset({"diagonal", "diag", "trace"})


@dataclass(frozen=True)
class Miscentred:
    """A product of values that are centred sample by sample, and where they are centred: where the product is made, for `torch.cov`."""

    product: fx.Node
    values: fx.Node
    centred: fx.Node


@dataclass(frozen=True)
class CrossedDiagonal:
    """A diagonal whose entry i is feature i of sample i."""

    node: fx.Node
    source: fx.Node
    axes: tuple[int, int]
    batch: int  # which of the two is the batch


def miscentred_covariances(model: Model) -> list[Miscentred]:
    """Products a^T a over the batch, of posterior values whose mean over their own features was taken off, not that over the batch; and
    covariances of the samples, where `torch.cov` was given them as its variables."""
    found = []
    ends = {s.z for s in model.sites} | {h for s in model.sites for h in s.heads}
    for node in model.flow.sorted(model.reaching_loss):
        if (rows := _of_rows(model, node)) is not None and ends & model.flow.ancestors(rows):
            found.append(Miscentred(node, rows, node))
            continue
        values = _squared(node) if ops.op(node) in ("matmul", "mm", "rmatmul") else None
        if values is None or "B" not in model.dims(values)[0] or not ends & model.flow.ancestors(values):
            continue
        try:
            sizes = dict(model.symbols)
            got = model.replay([values], posterior_values(model, sizes, 5), sizes)[values]
        except ReplayError:
            continue
        if _is_zero(got.mean(1), got) and not _is_zero(got.mean(0), got):
            chain = model.flow.ancestors(values, stop=ends)
            subtractions = [n for n in model.flow.sorted(chain) if ops.op(n) in ops.ADD]
            found.append(Miscentred(node, values, subtractions[-1] if subtractions else values))
    return found


def _of_rows(model: Model, node: fx.Node) -> fx.Node | None:
    """What `torch.cov` gets with the samples as its variables."""
    values = node.args[0] if node.op == "call_function" and ops.op(node) in _OF_ROWS and node.args else None
    is_matrix = isinstance(values, fx.Node) and len(shape(values)) == 2
    return values if isinstance(values, fx.Node) and is_matrix and "B" in model.dims(values)[0] and model.dims(values)[1] != "B" else None


def _squared(node: fx.Node) -> fx.Node | None:
    """a for a^T a, with a of two axes and the first contracted."""
    operands = ops.tensors(node.args)[:2]
    if len(operands) != 2 or any(len(shape(o)) != 2 for o in operands):
        return None
    left, turned = _base(operands[0])
    right, also = _base(operands[1])
    return right if left is right and turned and not also and shape(node) == (shape(right)[1],) * 2 else None


def _base(node: fx.Node) -> tuple[fx.Node, bool]:
    way = list(back(node, _TURNS))
    turns = (ops.op(n) not in ("contiguous", "clone") and shape(source) == shape(n)[::-1] for n, source in pairwise(way))
    return way[-1], sum(turns) % 2 == 1


def _is_zero(value: torch.Tensor, like: torch.Tensor) -> bool:
    return float(value.abs().max()) < 1e-9 * float(like.abs().max())


def crossed_diagonals(model: Model) -> list[CrossedDiagonal]:
    """Diagonals over the batch axis and one of the sample's own."""
    samples = batch_of(model).samples
    found: list[CrossedDiagonal] = []
    for node in model.flow.sorted(model.reaching_loss) if samples is not None else []:
        source = node.args[0] if node.op == "call_function" and ops.op(node) in _DIAGONALS and node.args else None
        if not isinstance(source, fx.Node) or len(shape(source)) < 2:
            continue
        axes = _axes(node, len(shape(source)))
        labels = samples.of(source) if samples is not None else None
        if axes is None or labels is None or labels.dim() != len(shape(source)) or any(shape(source)[a] < 2 for a in axes):
            continue
        varying = [a for a in axes if labels.shape[a] > 1]
        drawn = len(varying) == 1 and "B" in model.dims(source)[axes[0] if varying[0] == axes[1] else axes[1]]
        if len(varying) == 1 and not drawn:  # what has a draw of the prior for each sample, as kernels of an MMD, pairs no features
            found.append(CrossedDiagonal(node, source, axes, varying[0]))
    return found


def _axes(node: fx.Node, rank: int) -> tuple[int, int] | None:
    if ops.op(node) != "diagonal":
        return (0, 1) if rank == 2 else None
    given = [
        node.kwargs.get("dim1", node.args[2] if len(node.args) > 2 else 0),
        node.kwargs.get("dim2", node.args[3] if len(node.args) > 3 else 1),
    ]
    first, second = given
    return (first % rank, second % rank) if isinstance(first, int) and isinstance(second, int) else None
