"""Law A11, for sets of points: what is matched twice is matched from both sides.

A distance between two sets adds up how far the points of each are from their nearest in the other. Prediction: two minima over the
distances of all pairs differ, as they run over different sets. Where both are the same numbers and are charged alike, one direction is
counted twice, and points of the other set may be anywhere.

Exempt: a single direction, the same minima charged in two ways (a mean and a maximum), and losses with a minimum over the other set.

Source: Fan, Su & Guibas 2017, A point set generation network for 3D object reconstruction from a single image, the Chamfer distance.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import torch
from torch import fx

from vaelint.core.finding import Span
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import route, shape
from vaelint.replay.replay import ReplayError, gradients
from vaelint.rule import Found

_OF_TUPLES = frozenset({"min", "max", "topk", "sort", "kthvalue"})  # their first part is the values
_ALONE = frozenset({"amin", "amax"})
_ALIKE = 1e-9
_SEEDS = (1, 2)


@law(
    "points-are-matched-both-ways",
    "two minima over the distances of two sets of points run over different sets",
    covered=("VAE301",),
    cost="replay",
)
def points_are_matched_both_ways(bench: Bench) -> Iterator[Broken]:
    """Losses with several minima over pairs of the data's points and the decoder's."""
    nearest = _nearest(bench)
    if len(nearest) < 2:
        return
    try:
        if all(_is_one_direction(bench, nearest, seed) for seed in _SEEDS):
            yield _broken(bench, nearest[0], nearest[1])
    except ReplayError as error:
        raise CannotMeasureError(f"the distances do not run by themselves: {message_of(error)}") from error


def _nearest(bench: Bench) -> list[fx.Node]:
    """Minima (or maxima of what is turned) over something that both the data and the decoder are in, each on the way to the loss."""
    model, flow = bench.model, bench.model.flow
    ends = {s.z for s in model.sites} | {h for s in model.sites for h in s.heads}
    found = []
    for node in flow.sorted(model.reaching_loss):
        least = node
        if ops.part(node) == 0 and isinstance(node.args[0], fx.Node):
            least = node.args[0]
        if not shape(node) or ops.op(least) not in (_ALONE if least is node else _OF_TUPLES):
            continue
        pairs = next(iter(ops.tensors(least.args)), None)
        if pairs is None or len(shape(pairs)) < 2 or pairs not in model.decoded or not bench.is_real(node):
            continue
        if any(n.op == "placeholder" for n in flow.ancestors(pairs, stop=ends)):
            found.append(node)
    return [n for n in found if not any(n is not other and n in flow.ancestors(other) for other in found)]


def _is_one_direction(bench: Bench, nearest: list[fx.Node], seed: int) -> bool:
    """Whether all the minima are the same numbers, and move the loss in proportion."""
    model, loss = bench.model, bench.model.record.loss
    assert loss is not None
    sizes = dict(model.record.sizes)
    values = {n: v.detach() for n, v in model.replay(nearest, {}, sizes, seed=seed).items()}
    first = values[nearest[0]].squeeze()
    if first.numel() < 2 or float(first.std()) <= _ALIKE * float(first.abs().max()):
        return False
    signs = {n: _sign(v.squeeze(), first) for n, v in values.items()}
    if not all(signs.values()):
        return False
    leaves = {n: v.clone().requires_grad_() for n, v in values.items()}
    out = model.replay([loss], {n: v * 1 for n, v in leaves.items()}, sizes, seed=seed)[loss]
    if not out.requires_grad:
        return False
    pulls = [g * signs[n] if g is not None else None for n, g in zip(leaves, gradients(out, list(leaves.values())), strict=True)]
    return all(_is_proportional(a, b) for a, b in combinations(pulls, 2))


def _sign(value: torch.Tensor, first: torch.Tensor) -> int:
    """1 where two values are the same numbers, -1 where they are turned, as largest likenesses are; 0 where they differ."""
    if value.shape != first.shape:
        return 0
    return next((sign for sign in (1, -1) if _same(first, sign * value)), 0)


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return float((a - b).abs().max()) <= _ALIKE * float(a.abs().max())


def _is_proportional(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    """Whether one is a number above 0 times the other."""
    if a is None or b is None:
        return False
    a, b = a.flatten(), b.flatten()
    weight = float((a * b).sum() / (a * a).sum().clamp_min(1e-300))
    return weight > 0 and _same(b, weight * a)


def _broken(bench: Bench, first: fx.Node, second: fx.Node) -> Broken:
    model = bench.model
    found = Found(
        _apart(first, second) or model.where(second),
        label="is the same again: each runs over the same set of points",
        labels=model.labels((first, "the same distances")),
        why="one set is matched to its nearest points twice, the other never: points of the decoder that no datum is near, "
        "or data that no such point is near, cost nothing",
        help="take the second minimum over the other axis of the distances: d.min(1).values and d.min(2).values",
    )
    return Broken("matched-one-way", found, "the two minima differ", "they are the same numbers, and move the loss alike")


def _apart(first: fx.Node, second: fx.Node) -> Span | None:
    """The outermost expression in which the way to the second node is not that to the first: of a helper called twice, the second call."""
    ways = zip(reversed(route(first)), reversed(route(second)), strict=False)
    return next((b for a, b in ways if a != b), None)
