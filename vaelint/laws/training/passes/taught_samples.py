"""Law B1, for steps that take a batch in parts: what is computed as a loss is differentiated.

Observed on the step as it is recorded: an expression that compares what was decoded with the data, and runs in several turns, of which
one turn leads to a backward pass and another to none. Intervention: each sample takes the data of another. Prediction: a sample that moves
the comparison of a turn moves something that is differentiated. Broken is a `backward()` that is called behind the loop over the parts.

Exempt are turns under `no_grad`, turns of the same samples (several draws of which one is chosen, windows of a sequence), values that are
compared with others (the worst part of all), and what is returned for the caller to differentiate.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx

from vaelint.laws.bench import Bench
from vaelint.laws.decoding.overwritten_turns import compares
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import BackwardCall, Record, route
from vaelint.rule import Found

_MOST = 64  # samples that are exchanged


@law(
    "losses-are-differentiated",
    "a sample that moves a loss of the step moves one that is differentiated",
    covered=("VAE314", "VAE501", "VAE512", "VAE901"),
)
def losses_are_differentiated(bench: Bench) -> Iterator[Broken]:
    """Turns of one expression, of which some lead to a backward pass."""
    record = bench.model.record
    call = next((c for c in reversed(record.backwards) if c.kind == "backward" and c.span is not None and c.node is not None), None)
    if call is None or not any(u.kind == "stepped" for u in record.uses):
        return
    for counted, dropped in _turns(bench, record):
        if lost := _lost(bench, counted, dropped):
            yield _broken(bench, call, counted[-1], len(dropped), lost)
            return


def _turns(bench: Bench, record: Record) -> Iterator[tuple[list[fx.Node], list[fx.Node]]]:
    """Comparisons at one place: those behind a backward pass, and those behind none."""
    flow = bench.model.flow
    behind = flow.ancestors(*(c.node for c in record.backwards if c.node is not None))
    places: dict[object, tuple[list[fx.Node], list[fx.Node]]] = {}
    for node in flow.sorted({n for n in behind if compares(bench, n) and bench.knows(n)}):
        places.setdefault((route(node), ops.op(node)), ([], []))[0].append(node)
    for node in flow.order:  # what is not behind a pass has no posterior that is known of
        if node not in behind and node.meta.get("grad") and (route(node), ops.op(node)) in places:
            places[route(node), ops.op(node)][1].append(node)
    for counted, dropped in places.values():
        if dropped and all(bench.knows(n) for n in dropped) and not any(_is_chosen_or_returned(bench, n) for n in dropped):
            yield counted, dropped


def _is_chosen_or_returned(bench: Bench, node: fx.Node) -> bool:
    """Whether a value is held against another one, or leaves the step with its gradient."""
    below = bench.model.flow.descendants(node)
    left = {n for kept in (bench.model.record.output, bench.model.record.loss) for n in ops.tensors(kept)} if below else set()
    return any(ops.op(n) in ops.COMPARE or (n in left and n.meta.get("grad")) for n in below)


def _lost(bench: Bench, counted: list[fx.Node], dropped: list[fx.Node]) -> int:
    """How many samples move a comparison that is not differentiated and none that is; 0 where one comparison has samples of both kinds."""
    ends = [c.node for c in bench.model.record.backwards if c.node is not None and bench.knows(c.node)]
    seats = bench.of_kind("data", "tokens")
    if not seats or not ends:
        return 0
    taught, left = set[int](), dict[fx.Node, set[int]]()
    wanted = [*ends, *counted, *dropped]
    before = bench.after(bench.same(s.node for s in seats), wanted)
    samples = min(bench.value(s.node).shape[s.axis] for s in seats)
    for sample in range(min(samples, _MOST)):
        after = bench.after({**bench.same(s.node for s in seats), **bench.exchanged(seats, sample)}, wanted)
        moved = {n for n, v in before.items() if n in after and not v.equal(after[n])}
        if moved & {*ends, *counted}:
            taught.add(sample)
        for node in moved & set(dropped):
            left.setdefault(node, set()).add(sample)
    if len(left) < len(dropped) or any(rows & taught for rows in left.values()) or not taught:
        return 0
    return len(set[int]().union(*left.values()))


def _broken(bench: Bench, call: BackwardCall, kept: fx.Node, turns: int, samples: int) -> Broken:
    found = Found(
        call.span,
        label="differentiates the loss of one part alone",
        labels=bench.model.labels((kept, f"computed for {turns + 1} parts of the batch")),
        why="the optimizer steps along the gradient of this part: the samples of the others are encoded and decoded, and teach nothing",
        help="call backward() in each turn of the loop, or add the losses up and differentiate their sum",
    )
    text = f"{samples} samples move a loss that no backward pass starts from, and none that one does"
    return Broken("part-not-differentiated", found, "each sample of the batch moves what is differentiated", text)
