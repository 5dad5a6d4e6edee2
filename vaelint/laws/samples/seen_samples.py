"""Laws A1 and A12: every sample's posterior moves with that sample's data.

Intervention: every sample takes the data of another, with noise, lengths, masks and labels as they were, and the same again with other
weights. Broken where the draw of some samples moves and that of others does not, to the last bit.

Exempt: what another input decides (a row whose mask or flag says that nothing is there), samples that the step picks at random, draws of
the later turns of a loop, whose sequence may have ended, sequences of few steps, and samples that are the nodes of a graph.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.posterior.sites import Site
from vaelint.core.finding import Span
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.faults.batch.linked import rows_are_linked
from vaelint.faults.batch.mixing import batch_of
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.laws.samples.moved_rows import moved_rows
from vaelint.record import ops
from vaelint.record.record import route
from vaelint.rule import Found

_SHIFTS = (1, 2, 3, 4, 5, 6)  # whose data each sample takes: two samples may be alike, of few whole numbers several
_SEED = 1
_WHOLE = frozenset({"bernoulli", "multinomial", "poisson", "binomial"})


@law("each-sample-is-seen", "every sample's draw moves with its own data", covered=("VAE1", "VAE322", "VAE323", "VAE503"))
def each_sample_is_seen(bench: Bench) -> Iterator[Broken]:
    """One draw a sample, or one for each place of it; of a loop the first."""
    model = bench.model
    if any(bench.is_of_pairs(n) for n in model.record.inputs.values()) or rows_are_linked(model) or batch_of(model).runs_over_time:
        return
    for site in _first_turns(bench):
        if not bench.knows(site.z) or _is_picked(bench, site):
            continue
        blind = _blind(bench, [site.z]) - _short(bench)
        if blind and not _decided(bench, blind):
            blind &= _blind(bench.reweighed(_SEED), [site.z])
            if blind:
                yield _unseen(bench, site, blind)
                return


def _first_turns(bench: Bench) -> list[Site]:
    """The Gaussian draws with a row for each sample, of one line the first."""
    found: dict[object, Site] = {}
    for site in bench.model.gaussian_sites:
        axis = bench.batch_axis(site.z)
        if axis is not None and bench.model.dims(site.z)[axis] == "B":
            found.setdefault(route(site.z), site)
    return list(found.values())


def _is_picked(bench: Bench, site: Site) -> bool:
    """Whether random numbers decide what a draw is made of: those that are whole, true or false, or came of a comparison."""
    flow = bench.model.flow
    above = flow.ancestors(site.z)
    if any(ops.op(n) in _WHOLE for n in above & flow.random & flow.data):
        return True  # other data may draw the same zeros and ones: an image of a teacher's
    return any(not bench.is_real(n) and isinstance(n.meta.get("val"), torch.Tensor) for n in above & flow.noisy)


def _moved(bench: Bench, wanted: list[fx.Node]) -> dict[fx.Node, frozenset[int]]:
    """For each value the rows that move with the data of some other sample."""
    seats = bench.of_kind("data", "tokens")
    if not seats or (bench.base.batch or 0) < 3:
        raise CannotMeasureError("there are no three samples")
    before = bench.after_inputs(bench.same(s.node for s in seats), wanted)
    found: dict[fx.Node, frozenset[int]] = dict.fromkeys(before, frozenset())
    every = frozenset(range(bench.base.batch or 0))
    for shift in _SHIFTS:
        if all(rows == every for rows in found.values()):
            break
        after = bench.after_inputs({s.node: bench.value(s.node).roll(shift, s.axis) for s in seats}, wanted)
        for node in list(found):
            rows = moved_rows(before[node], after.get(node), bench.batch_axis(node) or 0)
            if rows is None:
                del found[node]
            else:
                found[node] |= rows
    return found


def _blind(bench: Bench, wanted: list[fx.Node]) -> frozenset[int]:
    """The rows of a value that move with no data, where others do."""
    rows = _moved(bench, wanted).get(wanted[0], frozenset())
    return frozenset(range(bench.base.batch or 0)) - rows if rows else frozenset()


def _short(bench: Bench) -> frozenset[int]:
    """The samples that are shorter than half of the longest there may be: of few steps a stride or a difference may leave none."""
    counts = [(bench.value(s.node), s.along) for s in bench.of_kind("lengths") if s.along]
    return frozenset(i for values, along in counts for i, n in enumerate(values.tolist()) if 2 * n < along)


def _decided(bench: Bench, blind: frozenset[int]) -> bool:
    """Whether a mask, a flag or a label tells the samples that do not move from the others; or all flags together."""
    told: list[list[object]] = []
    flags: list[list[object]] = []
    for seat in bench.of_kind("mask", "label", "other"):
        value = bench.value(seat.node)
        rows = value.movedim(seat.axis, 0).flatten(1) if value.dim() > 1 else value
        told.append([tuple(r.tolist()) if r.dim() else r.item() for r in rows])
        flags += [told[-1]] if bool(((value == 0) | (value == 1)).all()) else []
    together: list[list[object]] = [list(zip(*flags, strict=True))] if len(flags) > 1 else []
    return any(not {keys[i] for i in blind} & {k for i, k in enumerate(keys) if i not in blind} for keys in told + together)


def _bound(bench: Bench, node: fx.Node) -> Span | None:
    """Of rows that are written slice by slice, where the end of the slice is computed."""
    place, source = bench.model.where(node), bench.model.source
    statement = source.file(place.file).statement(place.line) if place is not None else None
    function = source.function(place) if place is not None else None
    if place is None or function is None or not isinstance(statement, ast.Assign):
        return None
    ends = [
        n.slice.upper for t in statement.targets for n in ast.walk(t) if isinstance(n, ast.Subscript) and isinstance(n.slice, ast.Slice)
    ]
    names = {n.id for n in ends if isinstance(n, ast.Name)}
    for made in ast.walk(function):
        if isinstance(made, ast.Assign) and made.lineno < place.line and names & {ast.unparse(t) for t in made.targets}:
            return Span(place.file, made.lineno, made.col_offset + 1, made.end_lineno, (made.end_col_offset or 0) + 1)
    return None


def _unseen(bench: Bench, site: Site, blind: frozenset[int]) -> Broken:
    model, flow, one = bench.model, bench.model.flow, min(blind)
    way = [n for n in flow.sorted(flow.ancestors(site.z) | {site.z}) if n in flow.data and n.op != "placeholder" and bench.is_real(n)]
    rows = _moved(bench, [n for n in way if bench.knows(n) and bench.batch_axis(n) is not None])
    rows = {n: r for n, r in rows.items() if model.dims(n)[bench.batch_axis(n) or 0] == "B"}
    lost = [n for n in flow.sorted(set(rows)) if one not in rows[n] and rows[n]]
    saw = next((n for n in lost if any(one in rows.get(m, ()) for m in flow.ancestors(n))), None)
    culprit = saw or (lost[0] if lost else site.z)
    found = Found(
        _bound(bench, culprit) or model.pointed(culprit) or model.where(culprit),
        label=f"from here on nothing of the data of {len(blind)} of {bench.base.batch} samples is left",
        labels=model.labels((None if culprit is site.z else site.z, "their draw is the same whatever their data")),
        shapes=(model.row(culprit),),
        why="these samples share one posterior: it says nothing of them, and they are decoded to one average",
        help="read each sequence at its own last step (lengths - 1), and give every row of the batch a posterior",
    )
    text = f"with the data of other samples {len(blind)} of {bench.base.batch} draws are the same to the last bit"
    return Broken("sample-unseen", found, "every sample's draw moves with its own data", text)
