"""Law A10, for scalings: generation undoes what the step does to the data before it is compared.

Intervention: tensors that the model keeps and that scale the data are set to other numbers; the step runs, and then the model's own method
that draws and decodes. Both are read as one line for each element: u = c x + d of what is compared, y = a u + b of what is given back.
Prediction, where both read the same kept tensor: a c is one number for all elements, and so is a d + b: the data's units, or those of a
viewer. And a second scaling by the same line does not undo the first.

Exempt are maps that are no lines, methods that add noise, tensors that the step moves after it has read them (they are tried as they were
before, too), and a mean that is not added again, where deviations are wanted.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx

from vaelint.experiment.recompute import in_place
from vaelint.experiment.runs import calm
from vaelint.late import dataclass
from vaelint.laws.bench import Bench
from vaelint.laws.decoding.generation import decoder_ends, generated, generators, tensor_of, using
from vaelint.laws.law import Broken, law
from vaelint.laws.training.kept.averages import root_of
from vaelint.record import ops
from vaelint.record.record import Record, ancestors, route
from vaelint.record.walk import behind
from vaelint.rule import Found

_LAYOUT = ops.SHAPE | ops.CAST
_EXACT = 1e-3
_LOOSE = 0.02  # a small number that is added to a deviation in one of two places
_FEWEST = 3


@dataclass(frozen=True)
class _Lines:
    """Slope and intercept, one of each for every element of a sample."""

    slope: torch.Tensor
    start: torch.Tensor

    @property
    def is_identity(self) -> bool:
        """Whether nothing is changed."""
        return bool(((self.slope - 1).abs() < _EXACT).all() and (self.start.abs() < _EXACT).all())

    def undoes(self, other: _Lines) -> bool:
        """Whether what the other did is undone, in whatever units, or all but the mean."""
        if bool(torch.isclose(self.slope, other.slope, rtol=_EXACT).all() and torch.isclose(self.start, other.start, rtol=_EXACT).all()):
            return bool(((self.slope.square() - 1).abs() < _EXACT).all())
        slope, start = self.slope * other.slope, self.slope * other.start + self.start
        size = start.abs().max().clamp(min=(self.slope * other.start).abs().max()).clamp(min=1e-9)
        is_one = bool(((slope / slope.mean() - 1).abs() < _LOOSE).all())
        return is_one and (
            bool((self.start.abs() < _EXACT * self.slope.abs()).all()) or bool(((start - start.mean()).abs() < _LOOSE * size).all())
        )


@law(
    "generation-undoes-the-scaling",
    "what generation gives back is in the units of the data that the step has scaled",
    covered=("VAE222", "VAE308", "VAE309"),
    cost="all",
)
def generation_undoes_the_scaling(bench: Bench) -> Iterator[Broken]:
    """One reconstruction, compared as the decoder's last layer puts it out with scaled data."""
    model, flow = bench.model, bench.model.flow
    _, last = decoder_ends(bench)
    fact = model.recons[0] if len(model.recons) == 1 else None
    if last is None or fact is None or fact.pair.target is None or behind(fact.pair.recon, _LAYOUT) is not last:
        return
    target = fact.pair.target
    data = [n for n in flow.ancestors(target) if n in set(model.record.inputs.values())]
    kept = _kept(flow.ancestors(target))
    if len(data) != 1 or not kept or target in flow.noisy or behind(target, _LAYOUT) is data[0]:
        return
    for name in generators(bench):
        broken = _asked(bench, name, data[0], target, last, kept)
        if broken is not None:
            yield broken
            return


def _kept(nodes: set[fx.Node]) -> set[str]:
    """The names of tensors of the model, parameters aside, among some nodes, or written over by them."""
    roots = nodes | {root_of(n) for n in nodes if in_place(n)}
    return {str(n.target) for n in roots if n.op == "get_attr" and not n.meta.get("parameter")}


def _asked(bench: Bench, name: str, data: fx.Node, target: fx.Node, last: fx.Node, kept: set[str]) -> Broken | None:
    def put(model: torch.nn.Module, _: object = None) -> None:
        calm(model)
        generator = torch.Generator().manual_seed(11)
        for key, value in model.named_buffers():
            if key in kept and value.is_floating_point():
                value.copy_((0.5 + 1.5 * torch.rand(value.shape, generator=generator)).to(value))

    before = generated(bench, name, prepare=put)
    built = bench.base.runner.build()
    step = bench.base.again(prepare=put, built=built)
    if before is None or step.record.failure is not None or not (step.has(data) and step.has(target)):
        return None
    after = generated(bench, name, prepare=None, built=built)
    scaled = _lines(step.value(data), step.value(target))
    from_any = [scaled, *(_lines(step.value(n), step.value(target)) for n in _between(bench, data, target) if step.has(n))]
    if after is None or scaled is None or scaled.is_identity:
        return None
    ends = [(record, using(record, last), _output(record)) for record in (after, before)]
    given = [_given_back(left, out) for _, left, out in ends]
    _, left, out = ends[0]
    if left is None or out is None or not _kept(ancestors(out) - ancestors(left)) & kept:
        return None
    if any(g is None or any(g.undoes(s) for s in from_any if s is not None) for g in given) or given[0] is None or given[0].is_identity:
        return None
    return _broken(bench, name, target, out)


def _between(bench: Bench, data: fx.Node, target: fx.Node) -> list[fx.Node]:
    """What the data are made into before they are what is compared: each may be the units that generation gives back."""
    flow = bench.model.flow
    return [n for n in flow.sorted(flow.descendants(data) & flow.ancestors(target)) if bench.knows(n)]


def _output(record: Record) -> fx.Node | None:
    """What was returned."""
    value = tensor_of(record.raw_output)
    return record.node_for(value) if value is not None else None


def _given_back(left: fx.Node | None, out: fx.Node | None) -> _Lines | None:
    """What is returned, as lines in what the last layer put out."""
    return _lines(left.meta.get("val"), out.meta.get("val")) if left is not None and out is not None else None


def _lines(at: object, value: object) -> _Lines | None:
    """The lines on which all samples lie, element by element; None where there are none."""
    if not isinstance(at, torch.Tensor) or not isinstance(value, torch.Tensor) or at.numel() != value.numel() or not at.dim():
        return None
    x, y = (v.detach().double().cpu().flatten(1) if v.dim() > 1 else v.detach().double().cpu()[:, None] for v in (at, value))
    if x.shape != y.shape or len(x) < _FEWEST:
        return None
    apart = x - x.mean(0)
    slope = (apart * y).sum(0) / apart.square().sum(0)
    start = y.mean(0) - slope * x.mean(0)
    off = (y - slope * x - start).abs().max(0).values
    good = bool(slope.isfinite().all()) and bool((off <= _EXACT * (y - y.mean(0)).abs().max(0).values).all())
    return _Lines(slope, start) if good and bool((slope != 0).all()) else None


def _broken(bench: Bench, name: str, target: fx.Node, out: fx.Node) -> Broken:
    model = bench.model
    node = out
    while ops.op(node) in _LAYOUT | {"detach", "cpu"} and node.all_input_nodes:
        node = node.all_input_nodes[0]
    used = {(place.file, place.line) for n in model.record.nodes for place in route(n)}
    places = route(node)  # a helper that the step calls as well is right: the call is not
    found = Found(
        next((place for place in places if (place.file, place.line) not in used), places[0] if places else model.where(target)),
        label=f"what {name} gives back is not in the units of the data",
        labels=model.labels((target, "the data are scaled by the same numbers, and the decoder learns these")),
        why="what is generated is scaled by another line than the inverse of what the step did to the data: no data are there",
        help="undo the scaling: out * std + mean, where the step takes (x - mean) / std",
    )
    text = "with other numbers in the tensors that both read, no units are left in which the one undoes the other"
    return Broken("generation-differs", found, "generation undoes the scaling of the data", text)
