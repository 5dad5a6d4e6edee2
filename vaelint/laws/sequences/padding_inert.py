"""Law A2: what a length or a mask takes out is inert, and what it leaves in is not.

Interventions: the data beyond each sample's length, or within it, takes other values while the posterior is held; the posterior of
steps beyond the length takes other values; the whole batch is padded further, and where places are averaged, what lies beyond the
length takes other values at the same sizes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.posterior.sites import Site
from vaelint.experiment.runs import calm
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench, Seat
from vaelint.laws.law import Broken, law
from vaelint.laws.sequences.counted_steps import added_up, loops, steps_counted
from vaelint.laws.sequences.lengths import axis_of, beyond, has_steps
from vaelint.laws.sequences.pooled import pooled_beyond, pooled_whole
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.record.walk import behind
from vaelint.rule import Found

_NOTHING = 1e-6  # of the loss: what does not hang on a value gives the same to the last digits
_TURNS = frozenset({"sub", "rsub", "bitwise_not", "invert", "logical_not"})
_FURTHER = 3  # steps of padding put on
_MUCH = 0.02  # of the spread of a posterior's parameter over the samples


@law("padding-is-inert", "padding beyond a sample's length changes nothing", covered=("VAE312", "VAE322", "VAE323"), cost="all")
def padding_is_inert(bench: Bench) -> Iterator[Broken]:
    """For each input that counts lengths, and each that has the axis they count along."""
    for lengths in bench.of_kind("lengths"):
        if not _is_read(bench, lengths):
            continue
        counted = {data: axis for data in bench.of_kind("data", "tokens") if (axis := axis_of(data, lengths)) is not None}
        own = {data: axis for data, axis in counted.items() if _meets(bench, lengths, data, list(counted))}
        for data, axis in (own or counted).items():
            yield from _of(bench, lengths, data, axis)


def _meets(bench: Bench, lengths: Seat, data: Seat, others: list[Seat]) -> bool:
    """Whether something made of the lengths meets something made of this sequence and of no other: of several, one has the lengths."""
    flow = bench.model.flow
    made = [set(flow.descendants(s.node)) | {s.node} for s in (lengths, data)]
    of_lengths, of_data = made
    of_others = {n for s in others if s is not data for n in (*flow.descendants(s.node), s.node)}
    compared = {r.pair.target for r in bench.model.recons if r.pair.target is not None}
    if any(t in of_data and t not in of_others for t in compared):
        return True  # what is decoded is counted by the loss
    return any(
        any(p in of_lengths and p not in of_data | of_others for p in n.all_input_nodes)
        and any(p in of_data and p not in of_lengths | of_others for p in n.all_input_nodes)
        for n in of_lengths & of_data
    )


def _is_read(bench: Bench, seat: Seat) -> bool:
    return seat.node in bench.model.reaching_loss or any(n in bench.model.reaching_loss for n in seat.node.users)


def _of(bench: Bench, lengths: Seat, data: Seat, axis: int) -> Iterator[Broken]:
    """The direct way from data to loss, then the posterior's steps, then the encoder."""
    absent = beyond(bench, lengths, data, axis)
    if not bool(absent.any()) or not bool((~absent).any()):
        raise CannotMeasureError("no sample is shorter than the longest")
    held = _posterior(bench)
    outside, inside = (_effect(bench, data, place, held) for place in (absent, ~absent))
    if outside > _NOTHING and (inside <= _NOTHING or _compared(bench, data, ~absent) <= _NOTHING < _compared(bench, data, absent)):
        yield _inverted(bench, lengths, data, outside)
        return
    if outside <= _NOTHING < inside:  # the reconstruction counts what the lengths leave in: so must the KL
        counted = steps_counted(bench, lengths, lambda same, changes: _moves(bench, changes, same))
        if counted is not None:
            yield _kl_counts_padding(bench, lengths, *counted)
    yield from _encoder_reads_padding(bench, lengths, data, axis, counts_within=outside <= _NOTHING < inside)


def _posterior(bench: Bench) -> dict[fx.Node, torch.Tensor]:
    """Heads and draws at their own values: nothing goes through them."""
    nodes = {n for s in bench.model.sites for n in (*s.heads, s.z) if bench.knows(n)}
    return bench.same(nodes)


def _compared(bench: Bench, data: Seat, place: torch.Tensor) -> float:
    """The effect of some places as targets alone: a decoder that is shown the steps before has the data beside its target."""
    decoded = {r.pair.recon for r in bench.model.recons if bench.knows(r.pair.recon)}
    return _effect(bench, data, place, {**_posterior(bench), **bench.same(decoded)}) if decoded else 1.0


def _effect(bench: Bench, data: Seat, place: torch.Tensor, held: dict[fx.Node, torch.Tensor]) -> float:
    """How much the loss moves, relative to its size, when the data takes other values at some places."""
    val = bench.value(data.node)
    other = val.roll(1, data.axis).roll(1, -1) if val.dim() > 1 else val.roll(1)
    if val.is_floating_point():
        other = other + val.std() if data.kind == "data" else other
    return _moves(bench, {data.node: torch.where(place, other, val), **held}, {data.node: val.clone(), **held})


def _moves(bench: Bench, changes: dict[fx.Node, torch.Tensor], same: dict[fx.Node, torch.Tensor]) -> float:
    loss = bench.base.loss_node
    before, after = (float(bench.after(c, [loss])[loss].double().sum()) for c in (same, changes))
    if not before == before or not after == after:
        raise CannotMeasureError("the loss is not finite")
    return abs(after - before) / (abs(before) or 1.0)


def _inverted(bench: Bench, lengths: Seat, data: Seat, effect: float) -> Broken:
    model = bench.model
    masks = [n for n in model.flow.sorted(model.flow.descendants(lengths.node)) if _is_mask(n)]
    made = next((n for n in masks if _true_beyond(bench, lengths, n)), masks[0] if masks else None)
    name, use = data.name, _own_use(bench, made)
    place = model.where(use or made) or (model.where(model.recon.pair.meet) if model.recon is not None else None)
    turned = "turn the mask round here: ~mask is true for what counts" if use else "turn the comparison round"
    found = Found(
        place,
        label="what is true beyond the length is used as what counts" if use else "true beyond the length, and used as what counts",
        labels=model.labels((model.recon.pair.meet, "this counts the padding only") if model.recon is not None else (None, "")),
        when="lengths differ",
        why=f"the reconstruction is learned on padding: {name} within the length does not count",
        help=turned if use else f"{turned}: steps < lengths is true for what counts",
    )
    text = f"{name} beyond the length moves the loss by {effect:.2g} of its size with the posterior held, within the length by nothing"
    return Broken("mask-inverted", found, f"{name} within the length moves the loss, beyond it does not", text)


def _own_use(bench: Bench, mask: fx.Node | None) -> fx.Node | None:
    """Where the loss takes a mask for its own purpose, if the encoder reads the same mask: there it cannot be turned where it is made."""
    if mask is None:
        return None
    flow, heads = bench.model.flow, {h for s in bench.model.sites for h in s.heads}
    below = flow.descendants(mask, stop=heads) - heads
    encoding = flow.ancestors(*heads) & below
    errors = {n for f in bench.model.recons for n in flow.descendants(f.pair.meet)}
    entries = [n for n in flow.sorted(below & errors) if any(i in below and i not in errors for i in n.all_input_nodes)]
    return entries[0] if encoding - {mask} and entries else None


def _is_mask(node: fx.Node) -> bool:
    val = node.meta.get("val")
    return isinstance(val, torch.Tensor) and val.dtype is torch.bool


def _true_beyond(bench: Bench, lengths: Seat, mask: fx.Node) -> bool:
    """Whether a mask is true in the last step of those samples alone that ended before it."""
    if not bench.knows(mask) or len(shape(mask)) < 2 or shape(mask)[1] != lengths.along:
        return False
    last, short = bench.value(mask)[:, -1], bench.value(lengths.node) < int(lengths.along or 0)
    return last.shape[0] == len(short) and torch.equal(last.reshape(len(short), -1).all(1), short)


def _kl_counts_padding(bench: Bench, lengths: Seat, site: Site, effect: float) -> Broken:
    model = bench.model
    fact = next((k for k in model.kls if k.site is site), model.kls[0] if model.kls else None)
    node = added_up(bench, lengths, site) or (fact.term.core if fact is not None else None)
    found = Found(
        model.where(node),
        label="sums the KL over all steps, those beyond the length too",
        when="lengths differ",
        why="the reconstruction leaves padded steps out and the KL does not: the shorter a sample, the more its KL weighs",
        help="multiply the KL of each step with the mask before the sum, as the reconstruction does",
    )
    text = f"the posterior of a step beyond the length moves the loss by {effect:.2g} of its size"
    return Broken("padding-not-inert", found, "a posterior beyond the length moves nothing", text)


def _encoder_reads_padding(bench: Bench, lengths: Seat, data: Seat, axis: int, *, counts_within: bool) -> Iterator[Broken]:
    """Whether a posterior of whole sequences moves when all samples are padded further."""
    heads = [h for s in bench.model.sites for h in s.heads if bench.knows(h) and not has_steps(bench, lengths, data, axis, h)]
    if not heads or len(loops(bench, int(lengths.along or 0))):
        return
    inverted = list(_encoder_is_inverted(bench, lengths, data, axis, heads))
    yield from inverted
    if inverted:
        return
    pooled = pooled_beyond(bench, lengths, data, axis, heads)
    if pooled is not None:
        yield _averages_padding(bench, lengths, data, heads[0], *pooled)
        return
    whole = pooled_whole(bench, lengths, data, axis, heads) if counts_within else None
    if whole is not None:
        yield _averages_padding(bench, lengths, data, heads[0], *whole, by_all=True)
        return
    runs = [_padded(bench, lengths, data, axis, more) for more in (0, _FURTHER)]
    again = _padded(bench, lengths, data, axis, 0, seed=1)  # what moves with the seed alone was drawn: dropout of the user's own
    for head in heads:
        values = [r[head] for r in (*runs, again) if head in r]
        if len(values) < 3 or len({v.shape for v in values}) > 1:
            continue  # an inner loop ended elsewhere
        spread = float(values[0].std(0).mean()) if values[0].shape[0] > 1 else 0.0
        gap = float((values[0] - values[1]).abs().mean())
        drawn = float((values[0] - values[2]).abs().mean())
        if spread > 0 and gap > _MUCH * spread + 3 * drawn:
            if not _is_the_edge(bench, lengths, data, axis, head):
                yield _reads_padding(bench, lengths, data, head, gap / spread)
            return


def _is_the_edge(bench: Bench, lengths: Seat, data: Seat, axis: int, head: fx.Node) -> bool:
    """Whether no value beyond the length moves the posterior, and the first that moves with how much of it there is leaves a convolution:
    its window meets the blank steps of a batch where a sequence alone meets the convolution's own padding."""
    val, absent = bench.value(data.node), beyond(bench, lengths, data, axis)
    other = val.roll(1, data.axis).roll(1, -1)
    before, after = (bench.after({data.node: v}, [head])[head] for v in (val.clone(), torch.where(absent, other, val)))
    entry = _where_padding_enters(bench, lengths, data, head) if torch.equal(before, after) else None
    return entry is not None and any(ops.op(n).startswith("conv") for n in (entry, *ops.value_inputs(entry)))


def _averages_padding(
    bench: Bench, lengths: Seat, data: Seat, head: fx.Node, node: fx.Node, share: float, *, by_all: bool = False
) -> Broken:
    model = bench.model
    which = "averages" if by_all else "adds up"
    why = "the average is over all places, of which the likelihood counts only those within the length"
    summed = "the sum runs over all places, and is divided by the number that count"
    found = Found(
        model.where(node),
        label=f"{which} the places beyond {lengths.name} too" + ("" if by_all else ", for a mean over those within"),
        labels=model.labels((head, "the posterior moves with the padding")),
        when="lengths differ",
        why=f"a sample has another posterior with other padding: {why if by_all else summed}",
        help="multiply with the mask before the sum: (h * mask).sum(1) / mask.sum(1)",
    )
    text = f"{data.name} beyond the length moves the posterior by {share:.2g} of its spread over the samples"
    return Broken("padding-not-inert", found, f"{data.name} beyond the length leaves the posterior as it is", text)


def _encoder_is_inverted(bench: Bench, lengths: Seat, data: Seat, axis: int, heads: list[fx.Node]) -> Iterator[Broken]:
    """Whether a posterior of whole sequences is made of what lies beyond the length alone."""
    val, absent = bench.value(data.node), beyond(bench, lengths, data, axis)
    other = val.roll(1, data.axis).roll(1, -1)
    before = bench.after({data.node: val.clone()}, heads)
    outside, inside = (bench.after({data.node: torch.where(place, other, val)}, heads) for place in (absent, ~absent))
    if all(torch.equal(inside[h], before[h]) for h in before) and any(not torch.equal(outside[h], before[h]) for h in before):
        yield _inverted_for_encoder(bench, lengths, data, heads[0])


def _inverted_for_encoder(bench: Bench, lengths: Seat, data: Seat, head: fx.Node) -> Broken:
    model, flow = bench.model, bench.model.flow
    below = flow.descendants(lengths.node)
    meets = [n for n in flow.sorted(below & flow.ancestors(head)) if any(i not in below and i in flow.data for i in n.all_input_nodes)]
    masks = [i for n in meets[:1] for i in n.all_input_nodes if i in below]
    turned = [n for m in masks if model.op(n := behind(m, ops.SHAPE | ops.CAST | {"getitem"})) in _TURNS]
    found = Found(
        model.where(turned[0] if turned else meets[0] if meets else head),
        label=f"leaves {data.name} within the length out, and lets what is beyond it in",
        labels=model.labels((head, "the posterior sees the padding only")),
        when="lengths differ",
        why="the posterior of a sample is computed from padding: it says nothing of the sample",
        help="turn the mask round: what counts are the steps below the length",
    )
    text = f"{data.name} beyond the length moves the posterior, {data.name} within it does not"
    return Broken("mask-inverted", found, f"{data.name} within the length moves the posterior", text)


def _where_padding_enters(bench: Bench, lengths: Seat, data: Seat, head: fx.Node) -> fx.Node | None:
    """The first value on the way to the posterior whose places within the length move with further padding: an attention."""
    flow, steps = bench.model.flow, int(lengths.along or 0)
    way = flow.sorted(flow.ancestors(head) & flow.descendants(data.node))
    having = [n for n in way if bench.is_real(n) and shape(n)[1:].count(steps) == 1 and len(shape(n)) > 2]
    axis = axis_of(data, lengths)
    if not having or axis is None or data.axis != 0:
        return None
    short, more = (_padded(bench, lengths, data, axis, k, wanted=having) for k in (0, _FURTHER))
    counts = bench.value(lengths.node).clamp(max=steps - _FURTHER)
    for node in having:
        if node not in short or node not in more or short[node].shape[0] != len(counts):
            continue
        along = shape(node)[1:].index(steps) + 1
        one, other = short[node].movedim(along, 1), more[node].movedim(along, 1)
        inside = torch.arange(one.shape[1], device=counts.device) < counts[:, None]
        gap = (one - other[:, : one.shape[1]])[inside].abs().max()
        if float(gap) > _MUCH * float(one.std()):
            return node
    return None


def _padded(
    bench: Bench, lengths: Seat, data: Seat, axis: int, more: int, seed: int = 0, wanted: list[fx.Node] | None = None
) -> dict[fx.Node, torch.Tensor]:
    """The posterior's heads, or what is wanted; the data is 0 beyond every length, and `more` of its last steps are there."""
    val, counts = bench.value(data.node), bench.value(lengths.node)
    short = int(lengths.along or 0) - _FURTHER
    if short < 2:
        raise CannotMeasureError("the sequences are too short to be padded further")
    counts = counts.clamp(max=short)
    steps = torch.arange(val.shape[axis], device=val.device).view([-1 if d == axis else 1 for d in range(val.dim())])
    blank = torch.where(steps < counts.view([-1 if d == data.axis else 1 for d in range(val.dim())]), val, torch.zeros_like(val))
    given = {data.name: blank.narrow(axis, 0, short + more).clone(), lengths.name: counts}

    def put(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> None:
        calm(model)
        inputs.update(given)

    again = bench.base.again(prepare=put, seed=seed)
    if again.record.failure is not None:
        raise CannotMeasureError("the step does not take sequences of another length")
    asked = wanted if wanted is not None else [h for s in bench.model.sites for h in s.heads]
    return {h: again.value(h).detach().double() for h in asked if again.has(h)}


def _reads_padding(bench: Bench, lengths: Seat, data: Seat, head: fx.Node, share: float) -> Broken:
    model = bench.model
    node = _where_padding_enters(bench, lengths, data, head) or _where_steps_end(bench, data, head, int(lengths.along or 0))
    found = Found(
        model.where(node) or model.where(head),
        label="reads the steps beyond each sample's length",
        labels=model.labels((head, "the posterior moves with the padding")),
        when="lengths differ",
        why="one sequence has another posterior in a batch that is padded further, and the last step of a short one is padding",
        help=f"take the state at each sample's own end: pack_padded_sequence with {lengths.name}, or gather at {lengths.name} - 1",
    )
    text = f"{_FURTHER} more steps of padding move the posterior by {share:.2g} of its spread over the samples"
    return Broken("padding-not-inert", found, "further padding leaves the posterior as it is", text)


def _where_steps_end(bench: Bench, data: Seat, head: fx.Node, steps: int) -> fx.Node | None:
    """The first value on the way to the posterior that has no axis of steps any more."""
    flow = bench.model.flow
    way = [n for n in flow.sorted(flow.ancestors(head) & flow.descendants(data.node)) if bench.is_real(n) and shape(n)]
    stepped = [n for n in way if steps in shape(n) and len(shape(n)) > 2]
    after = [n for n in way if stepped and flow.order[n] > flow.order[stepped[-1]]]
    return after[0] if after else None
