"""Law A12, for conditions: what the encoder gets beside the data, the decoder gets where it has room for it.

Interventions: a condition takes other values, once the posterior is looked at, once the reconstruction with every draw held; other weights
and other samples show which columns of what a decoder's layer reads never move. A condition that only the encoder sees may be meant so;
columns that are the same for every sample, whatever the weights, are where it belongs, and so is an argument that a function of the
decoder is handed it by and does not read.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.core.finding import Label, Span
from vaelint.laws.bench import Bench, Seat
from vaelint.laws.decoding.handed_conditions import HandedOver, handed_over, is_made_of
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import route, shape
from vaelint.rule import Found

_PREDICTED = "a condition that the encoder sees moves the reconstruction"
_SEEDS = (1, 2)
_JOINS = frozenset({"cat", "concat", "concatenate", "hstack"})


@law("conditions-reach-the-decoder", _PREDICTED, covered=("VAE324",), cost="all")
def conditions_reach_the_decoder(bench: Bench) -> Iterator[Broken]:
    """Inputs that are no target and move the posterior alone, beside columns joined with z that never move or an unread argument."""
    joined = [n for n in bench.model.record.nodes if ops.op(n) in _JOINS and bench.knows(n) and _with_draw(bench, n)]
    handed = handed_over(bench)
    if not joined and not handed:
        return
    unseen = [s for s in bench.of_kind("label", "data", "tokens") if _moves_posterior_alone(bench, s)]
    if not unseen:
        return
    for over in handed:
        seat = next((s for s in unseen if is_made_of(bench, s, over)), None)
        if seat is not None:
            yield _not_read(bench, seat, over)
            return
    benches = [bench, *(bench.reweighed(seed) for seed in _SEEDS)] if joined else []
    for turns in _by_place(joined):
        join = turns[0]
        for k, part in enumerate(join.all_input_nodes):
            parts = [n.all_input_nodes[k] for n in turns if len(n.all_input_nodes) == len(join.all_input_nodes)]
            if all(bench.knows(p) and bench.is_real(p) and not _moves(benches, p) for p in parts):
                yield _not_told(bench, benches, unseen[0], join, part)
                return


def _by_place(joined: list[fx.Node]) -> list[list[fx.Node]]:
    """The turns of one loop together: what a first step is given in place of the one before it is constant by right."""
    places: dict[object, list[fx.Node]] = {}
    for node in joined:
        places.setdefault(route(node), []).append(node)
    return list(places.values())


def _with_draw(bench: Bench, join: fx.Node) -> bool:
    """Whether a value that is made of a draw, past no layer, is joined with others before a layer of the decoder reads it."""
    flow, drawn = bench.model.flow, {s.z for s in bench.model.sites}
    return any(_is_drawn(part, drawn) for part in join.all_input_nodes) and bool(flow.descendants(join) & bench.model.decoded)


def _is_drawn(part: fx.Node, drawn: set[fx.Node]) -> bool:
    while part not in drawn and ops.op(part) in ops.SHAPE | ops.CAST | ops.SELECT and part.all_input_nodes:
        part = part.all_input_nodes[0]
    return part in drawn


def _moves_posterior_alone(bench: Bench, seat: Seat) -> bool:
    """Whether an input that nothing is compared with moves the posterior, and with every draw held no reconstruction."""
    flow = bench.model.flow
    targets = [r.pair.target for r in bench.model.recons if r.pair.target is not None]
    recons = [r.pair.recon for r in bench.model.recons if bench.knows(r.pair.recon)]
    heads = [h for s in bench.model.sites for h in s.heads if bench.knows(h)]
    if not recons or not heads or seat.node in flow.ancestors(*targets) | set(targets):
        return False
    val = bench.value(seat.node)
    new, same = {seat.node: val.flip(seat.axis)}, {seat.node: val.clone()}
    held = bench.same({s.z for s in bench.model.sites if bench.knows(s.z)})
    return _differ(bench, same, new, heads) and not _differ(bench, {**same, **held}, {**new, **held}, recons)


def _differ(bench: Bench, one: dict[fx.Node, torch.Tensor], other: dict[fx.Node, torch.Tensor], nodes: list[fx.Node]) -> bool:
    before, after = bench.after(one, nodes), bench.after(other, nodes)
    return any(n in after and not torch.equal(before[n], after[n]) for n in before)


def _moves(benches: list[Bench], node: fx.Node) -> bool:
    """Whether a value differs from sample to sample, or with the weights."""
    axis = benches[0].batch_axis(node)
    values = [b.value(node) for b in benches if b.knows(node)]
    if axis is None or len(values) < len(benches) or values[0].shape[axis] < 2:
        return True
    rows = [v.movedim(axis, 0) for v in values]
    return any(v.shape != rows[0].shape or not torch.equal(v, rows[0][:1].expand_as(v)) for v in rows)


def _not_read(bench: Bench, seat: Seat, over: HandedOver) -> Broken:
    model = bench.model
    found = Found(
        over.call,
        label=f"hands {seat.name} to {over.function}, which does not read {over.name}",
        labels=(Label(over.parameter, "never read"),),
        shapes=(model.row(seat.node),),
        why=f"{seat.name} reaches the encoder only: the decoder cannot be asked for one, and z has to carry it",
        help=f"let {over.function} read {over.name} beside z: torch.cat([z, {over.name}], 1), with a first layer as wide",
    )
    return Broken("condition-not-decoded", found, _PREDICTED, _measured(seat))


def _measured(seat: Seat) -> str:
    return f"{seat.name} moves the posterior and, with the draws held, no reconstruction"


def _not_told(bench: Bench, benches: list[Bench], seat: Seat, join: fx.Node, part: fx.Node) -> Broken:
    model = bench.model
    found = Found(
        _where(bench, benches, seat, part),
        label=f"{model.shape_text(part)}: the same for every sample, where the decoder could get {seat.name}",
        labels=model.labels((join, "joined with the draw here")),
        shapes=(model.row(seat.node), model.row(part)),
        why=f"{seat.name} reaches the encoder only: the decoder cannot be asked for one, and z has to carry it",
        help=f"give the decoder what the encoder was given for {seat.name}",
    )
    return Broken("condition-not-decoded", found, _PREDICTED, _measured(seat))


def _where(bench: Bench, benches: list[Bench], seat: Seat, part: fx.Node) -> Span | None:
    """Where the condition is lost: the first value made of it that is the same for all samples; else, in the code that holds the
    condition, the expression that led to the constant."""
    flow = bench.model.flow
    way = flow.sorted((flow.descendants(seat.node) | {seat.node}) & (flow.ancestors(part) | {part}))
    lost = next((n for n in way if n is not seat.node and bench.knows(n) and shape(n) and not _moves(benches, n)), None)
    if lost is not None:
        return bench.model.where(lost)
    place, first = route(part), next((u for u in flow.users.get(seat.node, ()) if route(u)), None)
    mine = route(first) if first is not None else ()
    shared = 0
    while shared < min(len(mine), len(place)) - 1 and mine[::-1][shared] == place[::-1][shared]:
        shared += 1
    return place[::-1][shared] if place else None
