"""Law C6, for straight-through values: the gradient that is handed over points where the value goes.

A sum like hard + soft - soft.detach() has the value of `hard`, which has steps, and the gradient of `soft` in its place. Intervention: what
the encoder puts out is moved a long way, with the same noise. The value follows in steps, and on the whole it must follow as its gradient
says: over many ways the two are compared by their signs. With the halves exchanged (hard - soft + soft.detach()) the value is the same, and
the gradient points the other way (Bengio et al. 2013, section 4; van den Oord et al. 2017, section 3.2).

Exempt: sums whose value is smooth, as where a gradient is turned on purpose.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError, gradients
from vaelint.rule import Found

_PREDICTED = "the gradient of a straight-through value points where the value goes"
_MOST = 60  # sums that are looked at
_TRIALS = 40
_AGAINST = -0.2
_ERRORS = 6.0
_SAME = 1e-9


@law("straight-through-points-ahead", _PREDICTED, covered=("VAE503", "VAE505", "VAE513", "VAE515"))
def straight_through_points_ahead(bench: Bench) -> Iterator[Broken]:
    """Sums that the loss is made of, whose value is that of a part with steps."""
    model, flow = bench.model, bench.model.flow
    if model.record.loss is None:
        return
    live = gradients_of(model).of_loss & flow.data
    sums = [n for n in flow.sorted(live) if ops.op(n) in ops.ADD and bench.is_real(n) and not ops.uses_parameter(n)]
    reasons: list[str] = []
    for node in sums[:_MOST]:
        found = _source(bench, node)
        if found is None:
            continue
        hard, source = found
        try:
            against = _alike(bench, node, source) if _same_value(bench, node, hard) else None
        except ReplayError as error:
            reasons.append(message_of(error))
            continue
        if against is not None and against[0] < _AGAINST and against[0] < -_ERRORS * against[1]:
            yield _broken(bench, node, hard, source, against[0])
            return
    if reasons:
        raise CannotMeasureError(f"the value does not run by itself: {reasons[0]}")


def _source(bench: Bench, node: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """A part of the sum through which no gradient comes to what it is made of, and what that is and the sum's gradient comes to."""
    flow, reach = bench.model.flow, gradients_of(bench.model).reach
    reached = reach(node) & flow.data - {node}
    for part in _parts(node):
        if part not in flow.data or not bench.is_real(part) or (_plain(part) in reached and ops.op(part) == "detach"):
            continue
        behind = reach(part)
        shared = [n for n in flow.sorted(reached & flow.ancestors(part) - behind) if bench.is_real(n)]
        layers = [n for n in shared if ops.uses_parameter(n)]
        if shared:
            return part, (layers or shared)[-1]
    return None


def _parts(node: fx.Node) -> Iterator[fx.Node]:
    """The operands of a sum of sums, of its own shape, without changes of layout, casts and detaches."""
    for part in ops.value_inputs(node):
        if ops.op(part) in ops.ADD:
            yield from _parts(part)
        elif ops.op(part) == "detach" and ops.op(_plain(part)) in ops.ADD:
            yield from _parts(_plain(part))
        elif shape(part) == shape(node):
            yield part


def _plain(part: fx.Node) -> fx.Node:
    return part.all_input_nodes[0] if ops.op(part) == "detach" else part


def _same_value(bench: Bench, node: fx.Node, hard: fx.Node) -> bool:
    got = bench.model.replay([node, hard], {}, bench.model.record.sizes)
    return got[node].shape == got[hard].shape and bool((got[node] - got[hard]).abs().max() <= _SAME * (1 + got[hard].abs().max()))


def _alike(bench: Bench, node: fx.Node, source: fx.Node) -> tuple[float, float] | None:
    """How the moves of the value and what its gradient says of them correlate, and the error of that; None where nothing moves."""
    model, sizes = bench.model, dict(bench.model.record.sizes)
    inside = model.flow.ancestors(node, stop={source}) & model.flow.descendants(source)
    still = [n for n in inside if n.meta.get("no_grad") and bench.is_real(n)]
    generator = torch.Generator().manual_seed(5)
    moved, said = [], []
    for seed in range(_TRIALS):
        here = model.replay([source, node, *still], {}, sizes, seed=seed)
        start = here[source].detach().double()
        spread = float(start.std()) if start.numel() > 1 else abs(float(start))
        by = max(spread, 0.5) * torch.randn(start.shape, dtype=torch.float64, generator=generator)
        weights = torch.randn(here[node].shape, dtype=torch.float64, generator=generator)
        leaf = start.clone().requires_grad_()
        out = model.replay([node], {source: leaf, **{n: here[n].detach() for n in still}}, sizes, seed=seed)[node]
        there = model.replay([node], {source: start + by}, sizes, seed=seed)[node]
        slope = gradients((out * weights).sum(), [leaf])[0] if out.requires_grad else None
        if slope is None:
            return None
        rows = start.shape[0] if start.dim() and here[node].shape[:1] == start.shape[:1] else 1
        moved.append(((there - out).detach() * weights).reshape(rows, -1).sum(1))
        said.append((slope * by).reshape(rows, -1).sum(1))
    a, b = torch.cat(moved), torch.cat(said)
    size = float(a.norm() * b.norm())
    return (float(a @ b) / size, 1 / math.sqrt(len(a))) if size > 0 and math.isfinite(size) else None


def _broken(bench: Bench, node: fx.Node, hard: fx.Node, source: fx.Node, alike: float) -> Broken:
    model = bench.model
    found = Found(
        model.where(node),
        label="the gradient handed over has the other sign",
        labels=model.labels((hard, "its value"), (source, "moved one way, the value goes that way, and the gradient says the other")),
        why="the encoder is moved away from the codes that the reconstruction asks for",
        help="hard + soft - soft.detach(), or soft + (hard - soft).detach(): the soft value is added with its gradient",
    )
    text = f"they correlate by {alike:.2f} over {_TRIALS} ways that the encoder's output is moved"
    return Broken("straight-through-reversed", found, _PREDICTED, text)
