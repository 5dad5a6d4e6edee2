"""Law A10, for units: where generation undoes what the encoder's input was scaled by, training compares in the scaled units too.

Intervention: the model's own method that draws and decodes is run. Where what it does with the decoder's output is the inverse of what the
step does with the data before the encoder reads it, the decoder puts out scaled data: an error against the data as they came is one of two
units. Exempt are maps that are no inverse of each other: images brought to bytes for a viewer, data scaled before the step.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.laws.bench import Bench
from vaelint.laws.decoding.generation import decoder_ends, generated, generators, using
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import Record
from vaelint.record.walk import behind
from vaelint.replay.replay import ReplayError
from vaelint.rule import Found

_ERRORS = ("squared_error", "absolute_error")
_SAME_LAYOUT = ops.SHAPE | ops.CAST
_EXACT = 1e-3
_SCALED = 0.05  # how far a scaling is from none
_FEWEST = 50

Map = tuple[float, float]
"""Slope and intercept."""


@law(
    "decoded-in-the-units-compared",
    "where generation undoes the scaling of the encoder's input, the error is taken in scaled units",
    covered=("VAE222", "VAE308", "VAE309"),
    cost="all",
)
def decoded_in_the_units_compared(bench: Bench) -> Iterator[Broken]:
    """One reconstruction by its error, against an input of the step as it is."""
    model, flow = bench.model, bench.model.flow
    _, last = decoder_ends(bench)
    fact = model.recons[0] if len(model.recons) == 1 else None
    if last is None or fact is None or fact.pair.target is None or fact.probe.kernel not in _ERRORS:
        return
    data = behind(fact.pair.target, _SAME_LAYOUT)
    if data not in model.record.inputs.values() or behind(fact.pair.recon, _SAME_LAYOUT) is not last:
        return
    read = [n for n in flow.sorted(flow.descendants(data) - flow.learned) if any(ops.uses_parameter(u) for u in flow.users.get(n, ()))]
    try:
        scaling = _map_of(bench, data, read[0]) if read else None
    except ReplayError as error:
        raise CannotMeasureError(f"what the encoder reads does not run by itself: {message_of(error)}") from error
    if scaling is None or abs(scaling[0] - 1) < _SCALED:
        return
    for name in generators(bench):
        record = generated(bench, name)
        left = using(record, last) if record is not None else None
        undone = _undone(record, left) if record is not None and left is not None else None
        if (
            undone is not None
            and abs(undone[0] * scaling[0] - 1) < _EXACT
            and abs(undone[0] * scaling[1] + undone[1]) < _EXACT * abs(undone[0])
        ):
            yield _broken(bench, name, fact.pair.meet, read[0], scaling)
            return


def _map_of(bench: Bench, data: fx.Node, read: fx.Node) -> Map | None:
    """What the encoder's first layer gets, as a line in the data; None where it is none."""
    sizes = {**bench.model.record.sizes, "B": 2}
    shape = bench.model.replay.shape_of(data, sizes)
    value = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) * 10
    got = bench.model.replay([read], {data: value}, sizes)[read].detach()
    return _line(value.flatten(), got.flatten()) if got.numel() == value.numel() else None


def _undone(record: Record, left: fx.Node) -> Map | None:
    """What is returned, as a line in what the decoder's last layer put out, where it lies between the bounds of a clamp."""
    decoded, out = left.meta.get("val"), record.output.meta.get("val") if isinstance(record.output, fx.Node) else None
    if not isinstance(decoded, torch.Tensor) or not isinstance(out, torch.Tensor) or decoded.numel() != out.numel():
        return None
    decoded, out = decoded.detach().double().flatten(), out.detach().double().flatten()
    inner = (out > out.min()) & (out < out.max())
    return _line(decoded[inner], out[inner]) if int(inner.sum()) >= _FEWEST else None


def _line(at: torch.Tensor, value: torch.Tensor) -> Map | None:
    """Slope and intercept where all points lie on one line."""
    middle = at.mean()
    slope = float(((at - middle) * value).sum() / (at - middle).square().sum())
    start = float(value.mean() - slope * middle)
    off = (value - slope * at - start).abs().max()
    return (slope, start) if bool(off <= _EXACT * (value - value.mean()).abs().max()) else None


def _broken(bench: Bench, name: str, meet: fx.Node, read: fx.Node, scaling: Map) -> Broken:
    model = bench.model
    found = Found(
        model.where(meet),
        label=f"the decoder puts out scaled data, as {name} undoes the scaling, and it is compared with the data as they came",
        labels=model.labels((read, f"the encoder reads {scaling[0]:.3g} * x {'+' if scaling[1] >= 0 else '-'} {abs(scaling[1]):.3g}")),
        why="the error is one of two units: it is large where the reconstruction is right, and outweighs the KL",
        help="compare with what the encoder gets, or undo the scaling in training too",
    )
    text = f"{name} brings the decoder's output back by the inverse of the encoder's scaling, and the error is taken before that"
    return Broken("generation-differs", found, "what is compared is in the units that generation starts from", text)
