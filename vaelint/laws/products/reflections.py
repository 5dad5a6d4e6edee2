"""Law C3, for draws on a sphere: what is turned or mirrored keeps its length.

Intervention: a value of length 1 that noise has made is exchanged for each unit vector in turn, which gives the map that follows it, one
matrix a sample. Where that is the identity less a symmetric matrix of rank one, and turns a direction round, it is a reflection:
prediction: the turned direction keeps its length. Else the draws leave the sphere, and are of no distribution that a KL on it is for.

Projections and shrinkage turn no direction round, and a map that is no such matrix is not asked.

Source: Davidson et al. 2018, Hyperspherical variational auto-encoders, algorithm 1; Tomczak & Welling 2016, Householder flow, eq. 10.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.record.walk import behind
from vaelint.rule import Found

_MOST = 24  # sizes of the sphere's space
_UNIT = 1e-3
_FLAT = 1e-3
_SEEN = 0.05
_LINEAR = ops.ADD | {"sub", "rsub", "matmul", "bmm", "mv", "einsum"}


@law("reflections-keep-lengths", "a draw on a sphere that is mirrored stays on the sphere", covered=("VAE408",))
def reflections_keep_lengths(bench: Bench) -> Iterator[Broken]:
    """Differences of a random value of length 1 and something made of it."""
    model, flow = bench.model, bench.model.flow
    if not model.has_loss:
        return
    for node in [n for n in flow.sorted(flow.noisy & model.reaching_loss) if ops.op(n) in _LINEAR and bench.knows(n)]:
        for unit in _units(bench, node):
            ways = _turned(bench, unit, node)
            if ways is not None:
                yield _broken(bench, unit, node, *ways)
                return


def _units(bench: Bench, node: fx.Node) -> list[fx.Node]:
    """The random values of length 1 that a value is made of, by way of changes of shape at most."""
    found = [behind(n, ops.SHAPE | ops.CAST) for n in node.all_input_nodes if n in bench.model.flow.noisy]
    return [n for n in found if n in bench.model.flow.noisy and shape(n)[-1:] == _flat(node)[-1:] and _is_unit(bench, n)]


def _flat(node: fx.Node) -> tuple[int, ...]:
    """The sizes of a value, without a last one of 1: a column of a product with matrices."""
    size = tuple(shape(node))
    return size[:-1] if len(size) > 2 and size[-1] == 1 else size


def _is_unit(bench: Bench, node: fx.Node) -> bool:
    """Whether each row has length 1, and no row is another's."""
    size = shape(node)
    if len(size) < 2 or not 2 <= size[-1] <= _MOST or not bench.is_real(node) or not bench.knows(node):
        return False
    rows = bench.value(node).double().reshape(-1, size[-1])
    return len(rows) > 1 and bool(((rows.norm(dim=1) - 1).abs() < _UNIT).all()) and not torch.allclose(rows[0], rows[1])


def _turned(bench: Bench, unit: fx.Node, node: fx.Node) -> tuple[float, float] | None:
    """The least and the largest factor by which the turned direction changes; None for no reflection, or one that keeps lengths."""
    val, columns = bench.value(unit), []
    zero = bench.after({unit: torch.zeros_like(val)}, [node]).get(node)
    for j in range(val.shape[-1]):
        put = torch.zeros_like(val)
        put[..., j] = 1.0
        columns.append(bench.after({unit: put}, [node]).get(node))
    if zero is None or any(c is None for c in columns) or float(zero.abs().max()) > _FLAT:
        return None
    maps = torch.stack([c.double() for c in columns if c is not None], -1).reshape(-1, val.shape[-1], val.shape[-1])
    if float((maps - maps.mT).abs().max()) > _FLAT * float(maps.abs().max()):
        return None
    values = torch.linalg.eigvalsh(maps)  # rising
    if bool(((values[:, 1:] - 1).abs() > _FLAT).any()) or float((values[:, 0] < 0).double().mean()) < 0.5:
        return None
    factors = values[:, 0]
    off = (factors.abs() - 1).abs()
    return (float(factors.min()), float(factors.max())) if float(off.median()) > _SEEN else None


def _broken(bench: Bench, unit: fx.Node, node: fx.Node, least: float, largest: float) -> Broken:
    model, flow = bench.model, bench.model.flow
    beside = flow.ancestors(node, stop={unit}) - flow.descendants(unit) - {unit}
    axes = [n for n in flow.sorted(beside) if bench.is_real(n) and shape(n) == shape(unit) and n.op == "call_function"]
    found = Found(
        model.where(axes[-1] if axes else node),
        label="not of length 1, for a reflection along it" if axes else "a reflection that changes lengths",
        labels=model.labels((unit, "a draw on the sphere"), (node, "which leaves it here")),
        why="the draws are on no sphere and are not centred on their mean direction, while the KL is that of a distribution on it",
        help="normalise the axis: u = F.normalize(e1 - mu, dim=-1), then v - 2 * (v * u).sum(-1, keepdim=True) * u",
    )
    text = f"the direction that is turned round changes by factors of {least:.3g} to {largest:.3g}, and not by -1"
    return Broken("draw-leaves-sphere", found, "a draw of length 1 that is mirrored has length 1", text)
