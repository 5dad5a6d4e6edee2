"""What the decoder gets in evaluation mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.posterior.sites import Site
from vaelint.core.finding import Span
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.flow import Flow, analyse_flow
from vaelint.record.record import Record, shape, span
from vaelint.replay.replay import Replay, ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


@dataclass(frozen=True)
class Biased:
    """An evaluation-mode z that is the mean plus a multiple of the scale."""

    site: Site
    span: Span | None
    multiple: float
    other_place: bool


def biased_evaluation(model: Model) -> list[Biased]:
    """Compares evaluation mode with training mode at each Gaussian draw."""
    if not model.gaussian_sites or not model.record.reads_mode:
        return []
    record = model.evaluation
    if record.failure is not None:
        return []
    flow = analyse_flow(record)
    found = []
    for site in model.gaussian_sites:
        if len(site.mu_heads) != 1 or len(site.scale_heads) != 1:
            continue
        mu, scale = twin_of(site.mu_heads[0], record), twin_of(site.scale_heads[0], record)
        if mu is None or scale is None or mu is scale:
            continue
        below = flow.descendants(mu) & flow.descendants(scale)
        z = next(
            (
                n
                for n in flow.sorted(below)
                if _is_element_wise(n, mu, flow) and any(ops.uses_parameter(u) for u in flow.descendants(n) if u is not n)
            ),
            None,
        )
        if z is None or z in flow.noisy:
            continue
        multiple = _multiple(model, record, site, mu, scale, z)
        if multiple is not None and abs(multiple) > 1e-6:
            place = _constant_place(z, flow) or span(z)
            found.append(Biased(site, place, multiple, place != span(site.z)))
    return found


@dataclass(frozen=True)
class LostRows:
    """A layer of the decoder that has a row for each sample in training and not in evaluation, and where they are lost."""

    place: fx.Node  # in the evaluation's record
    trained: tuple[str, ...]  # what the layer puts out
    evaluated: tuple[int, ...]
    batch: int


def lost_rows(model: Model) -> LostRows | None:
    """Where the evaluation's way from the data to the decoder joins the samples. Several draws of each, row behind row, keep them apart."""
    if not model.gaussian_sites or not model.record.reads_mode or not model.evaluation.graph.nodes:
        return None
    record, texts = model.evaluation, model.record.shapes
    flow, batch = analyse_flow(record), record.sizes.get("B", 1)
    twins = {(span(n), ops.op(n)): n for n in record.graph.nodes if ops.uses_parameter(n) and n in flow.data}
    for layer in model.flow.sorted({n for n in model.decoded if ops.uses_parameter(n) and "B" in texts.get(n, ())}):
        twin = twins.get((span(layer), ops.op(layer)))
        if batch < 2 or twin is None or any(size % batch == 0 for size in shape(twin)[:-1]):
            continue
        behind = flow.sorted(flow.ancestors(twin) & flow.data)
        joining = [n for n in behind if _joins(n, batch, flow)]
        place = next((n for n in joining if not any(size % batch == 0 for size in shape(n))), next(iter(joining), None))  # no flattening
        return LostRows(place, texts[layer], shape(twin), batch) if place is not None else None
    return None


def _joins(node: fx.Node, batch: int, flow: Flow) -> bool:
    """Whether a value has no axis of the batch's size, and what it is made of begins with one."""
    rows = [shape(n)[:1] == (batch,) for n in ops.value_inputs(node) if n in flow.data]
    return any(rows) and batch not in shape(node)


def _constant_place(z: fx.Node, flow: Flow) -> Span | None:
    """Where the constant that takes the place of eps is made."""
    between = flow.ancestors(z) - flow.data - flow.learned
    made = [
        n for n in flow.sorted(between) if n.op == "call_function" and isinstance(n.meta.get("val"), torch.Tensor) and span(n) is not None
    ]
    return span(made[-1]) if made else None


def twin_of(node: fx.Node, record: Record) -> fx.Node | None:
    """The node of another run made by the same expression."""
    return next(
        (
            n
            for n in record.graph.nodes
            if span(n) == span(node) and ops.op(n) == ops.op(node) and shape(n) == shape(node) and repr(n.args[1:]) == repr(node.args[1:])
        ),
        None,
    ) or next((n for n in record.graph.nodes if span(n) == span(node) and ops.op(n) == ops.op(node)), None)


def _is_element_wise(node: fx.Node, mu: fx.Node, flow: object) -> bool:
    return shape(node) == shape(mu) and ops.op(node) in ops.ADD | {"addcmul"}


def _multiple(model: Model, record: Record, site: Site, mu: fx.Node, scale: fx.Node, z: fx.Node) -> float | None:
    """(z - mu) / s at several heads, if it is the same everywhere."""
    replay = Replay(record, model.leaf_value, lambda sizes: model.tracer.inputs(None))
    ratios = []
    for m, h in ((0.7, 0.3), (-1.1, 0.8), (0.2, 1.4)):
        values = {mu: torch.full(shape(mu), m, dtype=torch.float64), scale: torch.full(shape(scale), h, dtype=torch.float64)}
        try:
            got = float(replay([z], values, record.sizes)[z].flatten()[0])
            here = {n: torch.full(shape(n), m if n in site.mu_heads else h, dtype=torch.float64) for n in site.heads}
            noise = [{n: torch.full(shape(n), level, dtype=torch.float64) for n in site.noise} for level in (0.0, 1.0)]
            at = [float(model.replay([site.z], {**here, **extra}, model.record.sizes)[site.z].flatten()[0]) for extra in noise]
        except ReplayError:
            return None
        if at[1] == at[0]:
            return None
        ratios.append((got - at[0]) / (at[1] - at[0]))
    return ratios[0] if max(ratios) - min(ratios) < 1e-6 else None
