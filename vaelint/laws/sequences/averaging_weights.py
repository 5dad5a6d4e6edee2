"""Law A7, within attention: weights with which values are averaged add up to one over what they average.

Intervention: the values are all 1, and the scores random numbers. Prediction: each average is 1. Where it is the sum over another axis of
the weights than the one that was normalised, a place shares itself out among those that ask, and what asks gets more or less than a whole.

Exempt: weights that are meant to share out. Slots, clusters and capsules compete for what they are given, and are not what they are given:
only attention of places among themselves is asked, where one place of the source moves a row and a column of the scores. Exempt are weights
that are normalised twice, and those whose sum is read, to be divided by later.

Source: Vaswani et al. 2017, Attention Is All You Need, eq. 1. Exempt: Locatello et al. 2020, Object-Centric Learning with Slot
Attention, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.core.reach import reachable
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.rule import Found

_ONE = 1e-3
_SPREAD = 2.0  # of the scores: weights that are far from equal
_SAME = ops.SHAPE | ops.CAST | {"dropout"}
_NORMALISERS = frozenset({"softmax", "log_softmax", "logsumexp", "normalize"})
_SUMS = ops.LINEAR_REDUCE | {"norm", "linalg_norm", "linalg_vector_norm"}
_CANDIDATES = 12


@law("averages-are-of-a-whole", "the weights of an average add up to one over what is averaged", covered=("VAE106", "VAE118", "VAE321"))
def averages_are_of_a_whole(bench: Bench) -> Iterator[Broken]:
    """Every softmax that is multiplied with values and added up."""
    flow = bench.model.flow
    for weights in bench.model.record.nodes:
        if ops.op(weights) != "softmax" or weights not in flow.data or not bench.knows(weights):
            continue
        scores = ops.value_inputs(weights)[0]
        for average, values in _averages(bench, weights):
            if _is_among_themselves(bench, scores, values, weights) and (sums := _sums(bench, scores, weights, values, average)):
                yield _broken(bench, weights, average, values, *sums)
                return


def _averages(bench: Bench, weights: fx.Node) -> Iterator[tuple[fx.Node, fx.Node]]:
    """What adds up values by these weights, and the values; none where something adds up the weights themselves."""
    flow = bench.model.flow
    same = reachable([weights], lambda n: [u for u in flow.users.get(n, ()) if ops.op(u) in _SAME])
    users = flow.sorted({u for n in same for u in flow.users.get(n, ())} - same)
    if any(ops.op(u) in _SUMS for u in users):
        return
    for user in users:
        others = [n for n in ops.value_inputs(user) if n not in same and n in flow.data and bench.knows(n)]
        if ops.op(user) in ops.PRODUCT and len(others) == 1 and len(ops.value_inputs(user)) == 2 and bench.knows(user):
            yield user, others[0]


def _is_among_themselves(bench: Bench, scores: fx.Node, values: fx.Node, weights: fx.Node) -> bool:
    """Whether one place of what the values are made of moves a row and a column of the scores, and no other."""
    flow, sizes = bench.model.flow, shape(scores)
    if len(sizes) < 3 or sizes[-1] != sizes[-2] or sizes[-1] < 3 or not bench.knows(scores):
        return False
    behind = flow.ancestors(scores) & flow.ancestors(values) & flow.data
    sources = [n for n in flow.sorted(behind) if bench.knows(n) and bench.is_real(n) and bench.value(n).numel() >= sizes[-1]]
    for source in reversed(sources[-_CANDIDATES:]):
        if _moves_a_cross(bench, source, scores):
            way = flow.descendants(source) & flow.ancestors(weights) - {source, weights}
            return not any(ops.op(n) in _NORMALISERS and shape(n)[-2:] == sizes[-2:] for n in way)
    return False


def _moves_a_cross(bench: Bench, source: fx.Node, scores: fx.Node) -> bool:
    val = bench.value(source)
    changed = val.clone().flatten()
    changed[changed.numel() // 3] += 3 * float(val.std()) + 0.1
    after = bench.after({source: changed.view(val.shape)}, [scores]).get(scores)
    before = bench.value(scores)
    if after is None or after.shape != before.shape:
        return False
    moved = ((after - before).abs() > 1e-6 * float(before.abs().nan_to_num(posinf=0).max())).flatten(0, -3).any(0)
    rows, columns = moved.all(1), moved.all(0)
    if int(rows.sum()) != 1 or int(columns.sum()) != 1:
        return False
    cross = rows[:, None] | columns[None, :]
    return torch.equal(moved, cross)


def _sums(bench: Bench, scores: fx.Node, weights: fx.Node, values: fx.Node, average: fx.Node) -> tuple[float, float] | None:
    """The least and the largest sum of weights over what they average, where it is another axis' sum than the one that is 1."""
    given = bench.value(scores)
    noise = torch.randn(given.shape, generator=torch.Generator().manual_seed(3)).to(given)
    changes = {scores: given + _SPREAD * noise, values: torch.ones_like(bench.value(values))}
    after = bench.after(changes, [weights, average])
    if len(after) < 2 or not all(bool(v.isfinite().all()) for v in after.values()):
        return None
    shares, found = after[weights].double(), after[average].double().flatten()
    if float((found - 1).abs().max()) < _ONE:
        return None
    for axis in range(shares.dim()):
        sums = shares.sum(axis).flatten()
        if float((sums - 1).abs().max()) < _ONE or len(found) % len(sums):
            continue
        every = sums.repeat_interleave(len(found) // len(sums))
        if torch.allclose(found.sort().values, every.sort().values, atol=_ONE):
            return float(sums.min()), float(sums.max())
    return None


def _broken(bench: Bench, weights: fx.Node, average: fx.Node, values: fx.Node, least: float, most: float) -> Broken:
    model = bench.model
    found = Found(
        model.where(weights),
        label="normalised over another axis than the one that is added up",
        labels=model.labels((average, "the values are added up here"), (values, "")),
        shapes=(model.row(weights), model.row(average)),
        why="each place shares itself out among the places that ask, and one that asks gets more or less than a whole: the average is "
        "scaled by how often the place is asked for",
        help="normalise over the axis of the keys, the one that the product with the values adds up (dim=-1 before `weights @ values`)",
    )
    text = f"values that are all 1 are averaged to {least:.3g} up to {most:.3g}"
    return Broken("average-of-no-whole", found, "values that are all 1 are averaged to 1", text)
