"""Law A10: what is generated follows what is trained.

Intervention: the model's own method that draws and decodes is run, with weights that are all elsewhere. What the decoder's first layer gets
there must have the mean and the spread of the prior that the KL holds the posterior to; what its last layer puts out must come through the
same bound as the reconstruction that is compared.

The prior is read from the KL itself: with z held, the loss along a mean m and a spread s of one column is w ((m - mp)^2 + s^2) / (2 sp^2)
- w log s + const. Three values of m and two of s give mp and sp, whatever the weight w.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

from vaelint.anatomy.posterior.sites import Site
from vaelint.core.finding import Label, Span
from vaelint.experiment.runs import Prepare, Runner
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import Record, ancestors, shape, span
from vaelint.rule import Found
from vaelint.step.step import Outcome
from vaelint.trace.recorded_run import Built

_DRAWN = 400  # generated samples
_COLUMNS = 4
_SEED = 1
_OFF = 0.4  # of the prior's own spread: the mean's error of 400 draws is 0.05
_WIDER = 1.7  # a temperature of 0.7 is common
_BOUNDS = frozenset({"sigmoid", "tanh", "softmax"})
_EXACT = 0.02  # of the bend: what a clamp or an absolute value makes of the KL is no parabola
NAMES = re.compile(r"(sample|generate|decode_prior)", re.IGNORECASE)
_SECONDS = 10.0


@law(
    "generation-follows-training",
    "what is generated is drawn from the KL's prior and bounded as in training",
    covered=("VAE432",),
    cost="all",
)
def generation_follows_training(bench: Bench) -> Iterator[Broken]:
    """One Gaussian draw of one column axis, and a decoder whose first layer reads it alone."""
    first, last = decoder_ends(bench)
    for name in generators(bench) if first is not None else ():
        record = generated(bench, name)
        if record is None:
            continue
        entry, left = using(record, first), using(record, last)
        if entry is None or left is None:
            continue
        yield from _drawn_elsewhere(bench, name, record, entry)
        yield from _unbounded(bench, name, record, left, last)
        return


def decoder_ends(bench: Bench) -> tuple[fx.Node | None, fx.Node | None]:
    """The layer that reads the draw as it is, and the last one before the reconstruction is compared."""
    model, flow = bench.model, bench.model.flow
    sites, recons = model.gaussian_sites, model.recons
    if len(model.sites) != 1 or len(sites) != 1 or len(recons) != 1 or len(shape(sites[0].z)) != 2:
        return None, None
    below = [n for n in flow.sorted(flow.descendants(sites[0].z)) if ops.op(n) in ops.LAYERS and ops.uses_parameter(n)]
    first = next((n for n in below if _source(n) is sites[0].z), None)
    behind = flow.ancestors(recons[0].pair.recon) | {recons[0].pair.recon}
    return first, next((n for n in reversed(below) if n in behind), None)


def _source(layer: fx.Node) -> fx.Node:
    """What a layer reads, behind changes of layout."""
    node = layer.all_input_nodes[0]
    while ops.op(node) in ops.SHAPE | ops.CAST and node.all_input_nodes:
        node = node.all_input_nodes[0]
    return node


def generators(bench: Bench) -> Iterator[str]:
    """The user's methods that are named for it and take no more than a number and a device."""
    kind = type(bench.model.record.model)
    for name in dir(kind):
        own = inspect.getattr_static(kind, name)
        function = getattr(kind, name, None)
        plain = inspect.isfunction(function) and not isinstance(own, staticmethod | classmethod)
        if plain and NAMES.search(name) and not name.startswith("__") and len(required(function)) <= 2:
            yield name


def required(function: Any) -> list[inspect.Parameter]:
    """The arguments of a method that have to be given."""
    own = list(inspect.signature(function).parameters.values())[1:]
    return [p for p in own if p.default is p.empty and p.kind <= p.POSITIONAL_OR_KEYWORD]


def generated(bench: Bench, name: str, *, prepare: Prepare | None = None, built: Built | None = None) -> Record | None:
    """The record of one call, with weights that are all elsewhere; None where it takes something else.

    With `prepare`, of a model that is changed in another way, and with `built`, of one that stays as it is.
    """
    runner = bench.base.runner
    function = getattr(type(bench.model.record.model), name)
    count, takes = len(required(function)), len(inspect.signature(function).parameters) > 1
    given = (_DRAWN, runner.device)[:count] if count or not takes else (_DRAWN,)
    own = Runner(runner.tracer, lambda model, _: Outcome(getattr(model, name)(*given), None), runner.device, runner.sizes, _SECONDS)
    record = own.run(prepare=prepare or (bench.moved(_SEED) if built is None else None), built=built)
    return record if record.failure is None else None


def using(record: Record, layer: fx.Node | None) -> fx.Node | None:
    """The one call of a layer's weights in another record."""
    name = next((n.target for n in layer.all_input_nodes if n.op == "get_attr"), None) if layer is not None else None
    calls = [n for n in record.nodes if n.op == "call_function" and any(i.op == "get_attr" and i.target == name for i in n.all_input_nodes)]
    return calls[0] if len(calls) == 1 else None


def _drawn_elsewhere(bench: Bench, name: str, record: Record, entry: fx.Node) -> Iterator[Broken]:
    z = _source(entry)
    val = z.meta.get("val")
    site = bench.model.sites[0]
    if not isinstance(val, torch.Tensor) or val.dim() != 2 or len(val) < _DRAWN or val.shape[1] != shape(site.z)[1]:
        return
    if len(site.mu_heads) != 1 or len(site.scale_heads) != 1 or site.scale is None or _of_another_stage(bench, z) or _is_moved(bench, site):
        return
    other = bench.reweighed(_SEED)
    priors = [_prior(other, site, k) for k in range(min(val.shape[1], _COLUMNS))]
    drawn = [(float(c.mean()), float(c.std())) for c in val.detach().double().unbind(1)[: len(priors)]]
    pairs = [(p, d) for p, d in zip(priors, drawn, strict=True) if p is not None and all(map(math.isfinite, d))]
    off = [(p, d) for p, d in pairs if abs(d[0] - p[0]) > _OFF * p[1] or not 1 / _WIDER < d[1] / p[1] < _WIDER]
    if off:  # of 400 draws the spread is known to 4 in 100
        (mean, spread), (own, wide) = max(off, key=lambda both: abs(math.log(max(both[1][1], 1e-9) / both[0][1])))
        found = Found(
            span(z),
            label=f"drawn for {name}, and from another distribution than the prior",
            labels=bench.model.labels((site.z, "in training the decoder gets draws that the KL holds to the prior")),
            why="the decoder has learned to decode draws of the prior: what it makes of others was never trained",
            help="draw from the prior that the KL names: its mean, and its standard deviation",
        )
        text = f"a column is drawn with mean {own:.2g} and spread {wide:.2g}; the KL is least at mean {mean:.2g} and spread {spread:.2g}"
        yield Broken("generation-differs", found, "the draws have the prior's mean and spread", text)


def _of_another_stage(bench: Bench, z: fx.Node) -> bool:
    """Whether what draws has parameters that this step does not read: a prior that is fitted to the codes afterwards."""
    read = {n.target for n in bench.model.flow.ancestors(bench.base.loss_node) if n.op == "get_attr"}
    return any(n.op == "get_attr" and n.meta.get("parameter") and n.target not in read for n in ancestors(z))


def _is_moved(bench: Bench, site: Site) -> bool:
    """Whether the draw is its head's and something learned besides, as of a posterior that is written as a step away from its prior: where
    the KL is least in the head says nothing of the draw then."""
    between = bench.model.flow.ancestors(site.z, stop={*site.heads, *site.roots}) - {*site.heads}
    return any(ops.uses_parameter(n) for n in between)


def _prior(bench: Bench, site: Site, column: int) -> tuple[float, float] | None:
    """The mean and the spread at which the loss, with z held, is least in one column of the posterior."""
    mu, head, scale = site.mu_heads[0], site.scale_heads[0], site.scale
    assert scale is not None
    if not all(bench.knows(n) for n in (mu, head, scale, site.z)):
        return None
    loss, held = bench.base.loss_node, {site.z: bench.value(site.z).clone()}

    def at(mean: float, raw: float) -> tuple[float, float]:
        means, raws = bench.value(mu).clone(), bench.value(head).clone()
        means[..., column], raws[..., column] = mean, raw
        after = bench.after({mu: means, head: raws, **held}, [loss, scale])
        return float(after[loss].double().sum()), float(after[scale].double().select(-1, column).mean())

    (low, _), (middle, one), (high, _), (_, two) = at(-1.0, 0.0), at(0.0, 0.0), at(1.0, 0.0), at(0.0, 1.0)
    bend, slope = low + high - 2 * middle, (high - low) / 2
    wider = at(0.0, 1.0)[0]
    if not bend > 0 or not one > 0 or not two > 0 or one == two:
        return None
    weight = (bend * (two**2 - one**2) / 2 - (wider - middle)) / math.log(two / one)
    (far, _), (sharp, least) = at(2.0, 0.0), at(0.0, -1.0)
    meant = (
        middle + 2 * slope + 2 * bend,
        middle + bend * (least**2 - one**2) / 2 - weight * math.log(least / one) if least > 0 else sharp,
    )
    if any(abs(got - m) > _EXACT * bend for got, m in zip((far, sharp), meant, strict=True)):
        return None
    return (-slope / bend, math.sqrt(weight / bend)) if weight > 0 else None


def _unbounded(bench: Bench, name: str, record: Record, left: fx.Node, last: fx.Node | None) -> Iterator[Broken]:
    """Whether training bounds what the last layer puts out before it is compared, and the generator gives it as it is."""
    model, flow = bench.model, bench.model.flow
    recon = model.recons[0].pair.recon
    assert last is not None
    way = (flow.descendants(last) | {last}) & (flow.ancestors(recon) | {recon})
    bounds = [n for n in flow.sorted(way) if ops.op(n) in _BOUNDS]
    output = tensor_of(record.raw_output)
    if not bounds or output is None or (node := record.node_for(output)) is None:
        return
    while node is not left and ops.op(node) in ops.SHAPE | ops.CAST | {"detach", "cpu"} and node.all_input_nodes:
        node = node.all_input_nodes[0]
    if node is left:
        place: Span | None = span(left)
        found = Found(
            place,
            label=f"{name} gives what the last layer puts out",
            labels=tuple(Label(s, "in training it comes through this bound") for n in bounds[-1:] if (s := span(n)) is not None),
            why="samples are on another scale than the data and the reconstructions: images need the bound to be images",
            help=f"apply {ops.op(bounds[-1])} here as well",
        )
        text = f"in training {ops.op(bounds[-1])} follows the decoder's last layer, in {name} nothing does"
        yield Broken("generation-differs", found, "what is generated comes through the same bound", text)


def tensor_of(output: Any) -> torch.Tensor | None:
    """The one tensor that was returned."""
    if isinstance(output, tuple | list) and len(output) == 1:
        return tensor_of(output[0])
    return output if isinstance(output, torch.Tensor) else None
