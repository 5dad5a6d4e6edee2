"""Posteriors of steps beyond a sample's length that the loss counts, where the reconstruction leaves those steps out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import fx

from vaelint.anatomy.posterior.sites import Site
from vaelint.laws.bench import Bench, Seat
from vaelint.record import ops
from vaelint.record.record import route, shape

_NOTHING = 1e-6  # of the loss: what does not hang on a value gives the same to the last digits

Values = dict[fx.Node, torch.Tensor]
Moves = Callable[[Values, Values], float]
"""How much the loss moves between two sets of values."""


def steps_counted(bench: Bench, lengths: Seat, moves: Moves) -> tuple[Site, float] | None:
    """A posterior of a step beyond the length that moves the loss, where there is one posterior a step."""
    counts = bench.value(lengths.node)
    for sites in loops(bench, int(lengths.along or 0)):
        site = sites[-1]
        rows = counts < len(sites)  # samples that ended before the last step
        if not bool(rows.any()) or not all(bench.knows(h) and _is_by_sample(bench, h) for h in site.heads):
            continue
        same = bench.same(site.heads)
        changes = {h: torch.where(rows.view(-1, *[1] * (v.dim() - 1)), v + 1.0, v) for h, v in same.items() if v.shape[0] == len(rows)}
        if len(changes) == len(same) and (effect := moves(same, changes)) > _NOTHING:
            return site, effect
    return _stacked(bench, lengths, moves)


def _stacked(bench: Bench, lengths: Seat, moves: Moves) -> tuple[Site, float] | None:
    """The same of a posterior of all steps at once: it is moved beyond the length while its draw, and so all that is decoded, stays."""
    counts, steps = bench.value(lengths.node), int(lengths.along or 0)
    absent = torch.arange(steps, device=counts.device) >= counts.view(-1, 1)
    for site in bench.model.sites:
        alike = all(bench.knows(h) and len(shape(h)) > 2 and shape(h)[:2] == tuple(absent.shape) for h in site.heads)
        if not site.heads or not alike or not bench.knows(site.z) or not all(_is_by_sample(bench, h) for h in site.heads):
            continue
        same = bench.same({*site.heads, site.z})
        moved = {h: torch.where(absent.view(*absent.shape, *[1] * (same[h].dim() - 2)), same[h] + 1.0, same[h]) for h in site.heads}
        if (effect := moves(same, {**same, **moved})) > _NOTHING:
            return site, effect
    return None


def _is_by_sample(bench: Bench, head: fx.Node) -> bool:
    """Whether the first axis is that of the samples: there may be as many particles."""
    return bench.model.dims(head)[:1] == ("B",) or bench.base.batch_axis(head) == 0


def loops(bench: Bench, steps: int) -> list[list[Site]]:
    """Posteriors that one line of a loop over the steps draws, in order."""
    groups: dict[object, list[Site]] = {}
    for site in bench.model.sites:
        groups.setdefault(route(site.z), []).append(site)
    return [g for g in groups.values() if len(g) == steps]


def added_up(bench: Bench, lengths: Seat, site: Site) -> fx.Node | None:
    """Where the steps of a posterior's KL are added up: the first sum below its heads that all steps of the loop come together in, or that
    has no axis of steps any more."""
    model, flow, steps = bench.model, bench.model.flow, int(lengths.along or 0)
    first = next((s for s in model.sites if route(s.z) == route(site.z)), site)
    both = flow.descendants(*first.heads, stop={first.z}) & flow.descendants(*site.heads, stop={site.z})
    joins = [n for n in flow.sorted(both & model.reaching_loss) if model.op(n) in ("sum", "mean", "nansum")]
    if first is site:
        joins = [n for n in joins if 1 in (ops.dims_of(n) or ()) and shape(ops.value_inputs(n)[0])[1:2] == (steps,)]
    return joins[0] if joins else None
