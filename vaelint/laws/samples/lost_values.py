"""Laws A4 and A12, for all samples together: what is made of the data moves with them, and what is made of a draw moves with it.

Intervention: all samples take the data of others, then all those of one; the posterior's draw must move, for some sample. Likewise the
draws of all levels, held at others, must move the reconstruction. Both with the noise as it was, and again with other weights. Broken
is a layer that leaves nothing over: a dropout at rate 1, a bound that all values lie beyond, a softmax along an axis of one.

Exempt are draws that read no data and reconstructions that read no draw, whatever stays the same with these weights alone (a gate that
starts at 0, units that are dead), what is multiplied by zeros that are no noise (a schedule's first step, a modality that is absent),
and what is rounded or looked up on the way (all samples may get one code).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import fx

from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.rule import Found

_SEEDS = (1, 2, 3)
_PRODUCTS = frozenset({"mul", "multiply", "where", "masked_fill", "einsum", "matmul", "bmm"})

_BY_CHANCE = 32  # as many numbers or fewer may all be drawn as 0

Changes = dict[fx.Node, torch.Tensor]


@law(
    "what-is-read-arrives",
    "some sample's draw moves with the data, and some reconstruction with its draw",
    covered=("VAE117", "VAE201", "VAE202", "VAE204", "VAE208", "VAE211", "VAE503", "VAE7"),
)
def what_is_read_arrives(bench: Bench) -> Iterator[Broken]:
    """Every draw with a row for each sample, of a loop the first, and every reconstruction."""
    flow = bench.model.flow
    kinds = {s.kind for s in bench.model.gaussian_sites}
    draws = [s.z for s in bench.model.sites if s.kind in kinds and bench.knows(s.z) and bench.is_real(s.z)]
    draws = [z for z in draws if bench.batch_axis(z) is not None]
    seats = {s.node: s.axis for s in bench.seats}
    for z in (s.z for s in bench.model.gaussian_sites if s.z in draws):
        if z in flow.data and z in flow.learned and (lost := _lost(bench, seats, z)) is not None:
            yield _unread(bench, lost, z)
            return
    axes = {z: bench.batch_axis(z) or 0 for z in draws}
    for recon in (r.pair.recon for r in bench.model.recons):
        own = {z: axis for z, axis in axes.items() if z is not recon and z in flow.ancestors(recon)}
        if own and bench.knows(recon) and recon in flow.learned and (lost := _lost(bench, own, recon)) is not None:
            yield _undecoded(bench, lost, min(own, key=flow.order.__getitem__))
            return


def _lost(bench: Bench, axes: Mapping[fx.Node, int], end: fx.Node) -> fx.Node | None:
    """The value from which on nothing of the sources is left; None where something of them arrives."""
    lost = _last_door(bench, axes, end)
    for seed in _SEEDS if lost is not None else ():
        lost = _last_door(bench.reweighed(seed), axes, end)
        if lost is None or _may_be_so(bench, lost):
            return None
    return lost


def _last_door(bench: Bench, axes: Mapping[fx.Node, int], end: fx.Node) -> fx.Node | None:
    """The last value that stays the same to the last bit while something that it is made of moves; None where `end` moves."""
    flow = bench.model.flow
    own = {n: axis for n, axis in axes.items() if bench.knows(n) and bench.value(n).shape[axis] > 2}
    if not own or not _moved(bench, own, list(own)):
        return None
    if _moved(bench, own, [end]):
        return None
    way = [n for n in flow.sorted(flow.ancestors(end) & flow.descendants(*own)) if bench.knows(n)]
    moved = _moved(bench, own, way) | set(own)
    doors = [n for n in way if n not in moved and any(i in moved for i in flow.inputs[n])]
    return doors[-1] if doors else None


def _moved(bench: Bench, axes: Mapping[fx.Node, int], wanted: list[fx.Node]) -> set[fx.Node]:
    """The values that an exchange of the sources' rows moves. Those that cannot be compared count as moved."""
    run = bench.after_inputs if all(n.op == "placeholder" for n in axes) else bench.after
    before = run(bench.same(axes), wanted)
    found: set[fx.Node] = set()
    for changes in (_rolled(bench, axes), _all_alike(bench, axes)):
        after = run(changes, wanted)
        found |= {n for n, v in before.items() if n not in after or not _is_same(v, after[n])}
    return found


def _rolled(bench: Bench, axes: Mapping[fx.Node, int]) -> Changes:
    return {n: bench.value(n).roll(1, axis) for n, axis in axes.items()}


def _all_alike(bench: Bench, axes: Mapping[fx.Node, int]) -> Changes:
    """All rows as the first: what is made of a whole batch stays the same in another order."""
    return {n: bench.value(n).narrow(axis, 0, 1).expand_as(bench.value(n)).clone() for n, axis in axes.items()}


def _is_same(before: torch.Tensor, after: torch.Tensor) -> bool:
    return before.numel() > 0 and before.shape == after.shape and bool(before.isfinite().all()) and torch.equal(before, after)


def _may_be_so(bench: Bench, lost: fx.Node) -> bool:
    """Whether a value is the same for a reason that ends, or by a choice among few."""
    flow = bench.model.flow
    read = [i for i in flow.inputs[lost] if i not in flow.pure_noise]
    if not bench.is_real(lost) or not all(bench.is_real(i) for i in read) or flow.looks_up(lost):
        return True
    if ops.op(lost) not in _PRODUCTS:
        return ops.op(lost) in ("round", "sign", "floor", "ceil", "trunc", "custom_gradient")  # the last may hold numbers of numpy's
    zeros = [i for i in flow.inputs[lost] if bench.knows(i) and not bool(bench.value(i).any())]
    zeros = [i for i in zeros if i not in flow.pure_noise or bench.value(i).numel() < _BY_CHANCE]
    numbers = [a for a in lost.args if isinstance(a, int | float) and a == 0]
    return bool(zeros or numbers)


def _unread(bench: Bench, lost: fx.Node, z: fx.Node) -> Broken:
    model = bench.model
    found = Found(
        model.pointed(lost) or model.where(lost),
        label="from here on nothing of the data is left, of no sample",
        labels=model.labels((z, "the draw is the same whatever the data")),
        shapes=(model.row(lost),),
        why="all samples share one posterior: it says nothing of them, and they are decoded to one average",
        help="F.dropout takes the rate first: F.dropout(h, 0.1, self.training)"
        if _is_dropout(lost)
        else "let what the encoder has read reach the posterior's mean",
    )
    return Broken("sample-unseen", found, "some draw moves with the data", "with other data all draws are the same to the last bit")


def _undecoded(bench: Bench, lost: fx.Node, z: fx.Node) -> Broken:
    model = bench.model
    found = Found(
        model.pointed(lost) or model.where(lost),
        label="from here on nothing of the draw is left, of no sample",
        labels=model.labels((z, "drawn here")),
        shapes=(model.row(lost),),
        why="the reconstruction is the same whatever was drawn: the decoder can only learn the average of the data",
        help="F.dropout takes the rate first: F.dropout(h, 0.1, self.training)" if _is_dropout(lost) else "let the draw reach the output",
    )
    return Broken(
        "posterior-not-used", found, "some reconstruction moves with the draws", "with other draws all are the same to the last bit"
    )


def _is_dropout(node: fx.Node) -> bool:
    return "dropout" in ops.op(node)
