"""The rows that each sample moves, of every value; and of two orders of copies the one that what follows is not written for."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import fx

from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench

MOST_SAMPLES = 4
_NOISE = 1e-5  # a row that nothing reaches is the same to the last bit, but for kernels that add up in another order

Rows = dict[fx.Node, list[frozenset[int]]]
"""For each value the rows that each of the exchanged samples moves."""

Turned = tuple[fx.Node, Callable[[torch.Tensor], torch.Tensor]]
"""A value, and what becomes of it."""


def rows_moved(
    bench: Bench,
    wanted: list[fx.Node],
    also: dict[fx.Node, torch.Tensor] | None = None,
    samples: list[int] | None = None,
    turned: Turned | None = None,
) -> Rows:
    """The rows that samples move, with some values held, or one turned to another order."""
    seats = bench.of_kind("data", "tokens", "label")
    batch = bench.base.batch
    if batch is None or batch < 3 or not seats:
        raise CannotMeasureError("there are no three samples")

    def run(changes: dict[fx.Node, torch.Tensor]) -> dict[fx.Node, torch.Tensor]:
        if turned is None:
            return bench.after_inputs(changes | (also or {}), wanted)
        node, turn = turned
        return bench.after(changes | {node: turn(bench.after(changes, [node])[node])}, wanted)

    before = run(bench.same(s.node for s in seats))
    found: Rows = {n: [] for n in before}
    largest: dict[fx.Node, float] = {}
    for sample in samples or exchanged(bench):
        after = run(bench.exchanged(seats, sample))
        for node in list(found):
            if node not in largest:
                largest[node] = _largest(before[node])
            moved = moved_rows(before[node], after.get(node), bench.batch_axis(node) or 0, largest[node])
            if moved is None:
                del found[node]  # its shape hangs on the values
            else:
                found[node].append(moved)
    return found


def misplaced(bench: Bench, side_by_side: fx.Node, apart: fx.Node, below: list[fx.Node]) -> fx.Node | None:
    """Of two operands, with the copies of each sample side by side and a whole batch apart, the one that does not fit what follows.

    Each in turn is put in the order of the other: no samples meet then where what follows, a view or a mean over the copies, is
    written for that order. None where both orders would do, or neither.
    """
    fits: list[fx.Node] = []
    for node, is_apart in ((side_by_side, False), (apart, True)):
        axis, batch = bench.batch_axis(node), bench.base.batch or 1
        if axis is None or bench.value(node).shape[axis] % batch:
            return None
        try:
            rows = rows_moved(bench, below, turned=(node, partial(_turn, axis=axis, batch=batch, is_apart=is_apart)))
        except CannotMeasureError:
            return None
        if not any(meet(moved) for moved in rows.values()):
            fits.append(node)
    return fits[0] if len(fits) == 1 else None


def _turn(value: torch.Tensor, axis: int, batch: int, is_apart: bool) -> torch.Tensor:
    """Copies that lie side by side a whole batch apart, and the other way round."""
    rows = value.movedim(axis, 0)
    copies = rows.shape[0] // batch
    size = (copies, batch) if is_apart else (batch, copies)
    return rows.reshape(*size, *rows.shape[1:]).transpose(0, 1).flatten(0, 1).movedim(0, axis)


def exchanged(bench: Bench) -> list[int]:
    """The samples that take another one's values."""
    batch = bench.base.batch or 0
    return sorted({0, 1, batch // 2, batch - 1})[:MOST_SAMPLES]


def _largest(value: torch.Tensor) -> float:
    """The largest absolute value of a tensor, 0 of none."""
    if not value.numel():
        return 0.0
    low, high = value.double().aminmax() if value.dtype not in (torch.float32, torch.float64) else value.aminmax()
    return max(abs(float(low)), abs(float(high)))


def moved_rows(before: torch.Tensor, after: torch.Tensor | None, axis: int, largest: float | None = None) -> frozenset[int] | None:
    """The entries along an axis that differ; `largest` is the largest absolute value before, where it is known."""
    if after is None or before.shape != after.shape or before.numel() == 0:
        return None
    others = tuple(dim for dim in range(before.dim()) if dim != axis)
    a, b = (v if v.dtype in (torch.float32, torch.float64) else v.double() for v in (before, after))
    gap = torch.linalg.vector_norm(a - b, math.inf, others) if others else (a - b).abs()  # NaN where either is not finite
    if not bool(gap.isfinite().all()):
        return None
    bound = _NOISE * (_largest(before) if largest is None else largest)
    return frozenset(torch.nonzero(gap > bound).flatten().tolist())


def meet(moved: list[frozenset[int]]) -> bool:
    """Whether two samples move the same row."""
    seen: set[int] = set()
    for rows in moved:
        if rows & seen:
            return True
        seen |= rows
    return False


def are_side_by_side(moved: list[frozenset[int]]) -> bool:
    """Whether the rows of each sample lie between no others of the samples that were exchanged."""
    ends = sorted((min(rows), max(rows)) for rows in moved if rows)
    return all(last < first for (_, last), (first, _) in pairwise(ends))
