"""Law C2: the reconstruction that minimises the error of one sample is that sample.

Intervention: the last layers' outputs, and parameters that are applied after them, are moved to where they fit given data best.
Prediction: the mean of the likelihood then is the data, where all of it lies at its upper or at its lower end. Asked are
- Bernoulli likelihoods whose probabilities share one sum (a softmax over the elements of a sample): not all elements can be 1;
- Poisson likelihoods on log rates: the rate must come below 1/2 where the counts are 0, so their logarithm may not be bounded at 0;
- Bernoulli likelihoods on logits: a probability must come near 0 and near 1 where the data are there;
- bounded reconstructions that reach twice as far as their data, where a layer gets the data rescaled to what the reconstruction reaches.

Data whose range nobody declared says nothing. Classes along one of several axes of a sample are exempt from the first, since data of
classes sums up to 1 too, and so is a reconstruction beside one of more elements (a label that came as zeros and one 1).

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes, appendix C.1; Salmon et al. 2015, VAE with a Poisson likelihood: the mean
of the decoder's density is what is compared with the data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.anatomy.model import Model
from vaelint.core.finding import Severity
from vaelint.core.messages import message_of
from vaelint.experiment.verdict import CannotMeasureError
from vaelint.faults.likelihood.likelihood import target_range
from vaelint.laws.bench import Bench
from vaelint.laws.law import Broken, law
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.ranges import Range, declared_range, is_free, raw_outputs, value_range
from vaelint.replay.replay import ReplayError, gradients
from vaelint.rule import Found

_LEAST_ELEMENTS = 4
_SHORT = 0.5  # of the highest probability, or of one count
_ALONE = 1.5  # times the best mean of all elements, which one of several that share a sum reaches alone
_TWICE = 0.6  # the data's share of what the reconstruction reaches
_SAME = 0.02
_FAR = 0.2  # a probability this far from the data's end does not reach it
_STEPS = 60
_LARGEST = 200_000


@law(
    "the-best-fit-is-the-data",
    "outputs of the decoder's last layer that fit a sample best make its mean that sample",
    covered=("VAE303", "VAE304", "VAE305", "VAE306", "VAE308", "VAE309", "VAE316", "VAE318", "VAE321"),
    cost="replay",
)
def the_best_fit_is_the_data(bench: Bench) -> Iterator[Broken]:
    """Reconstructions element by element, of data whose range is declared."""
    model, reasons = bench.model, list[str]()
    for fact in model.recons:
        data = target_range(model, fact)
        if data is None or fact.term.detached is not None or not _is_known(fact, data):
            continue
        try:
            broken = _of(bench, fact, data)
        except ReplayError as error:
            reasons.append(message_of(error))
            continue
        if broken is not None:
            yield broken
    if reasons:
        raise CannotMeasureError(f"the reconstruction does not run by itself: {reasons[0]}")


def _is_known(fact: ReconFact, data: tuple[float, float]) -> bool:
    """Whether both ends of the data are known; of counts the lower one is enough."""
    return all(map(math.isfinite, data[:1] if fact.probe.kernel == "poisson_log" else data))


def _of(bench: Bench, fact: ReconFact, data: tuple[float, float]) -> Broken | None:
    kernel = fact.probe.kernel
    if kernel == "bce":
        return _shares_one_sum(bench, fact, data)
    if kernel == "bce_with_logits":
        return _bounded_logits(bench, fact, data)
    if kernel == "poisson_log":
        return _no_zeros(bench, fact, data)
    if kernel in ("squared_error", "absolute_error", "log_cosh"):
        return _rescaled_elsewhere(bench, fact, data)
    return None


def _shares_one_sum(bench: Bench, fact: ReconFact, data: tuple[float, float]) -> Broken | None:
    """Probabilities of many independent elements that cannot all be as high as the data may."""
    model, recon = bench.model, fact.pair.recon
    sizes = [_elements(f) for f in model.recons]
    event = [n for n in shape(recon)[1:] if n != 1]
    if len(event) != 1 or event[0] < _LEAST_ELEMENTS or _elements(fact) < max(sizes):
        return None
    best = _nearest(model, recon, data[1])
    if best is None or float(best.mean()) > _SHORT * data[1]:
        return None
    reach = value_range(model, recon)
    if reach is None or reach.high <= max(data[1] * (1 - _SHORT), _ALONE * float(best.mean())):
        return None  # one element alone does not reach the data either: that is another fault
    squash = model.activation(recon) or reach.bound_by or fact.pair.meet
    births = model.birth_labels(squash, "made here")  # the layer that is chosen, not the line that calls it
    found = Found(
        births[0].span if births else model.where(squash),
        label=f"all {event[0]} elements share one sum here",
        labels=model.labels((fact.pair.meet, "each element has a likelihood of its own")),
        why="the likelihood takes the elements to be independent, and the decoder cannot make two of them likely at once: "
        "the error has a floor, and reconstructions stay dark",
        help="use a sigmoid for independent elements, or a categorical likelihood (-(x * log_softmax(logits)).sum()) for one total",
    )
    text = f"for a sample of {data[1]:g} everywhere the best reconstruction has a mean of {float(best.mean()):.2g}"
    return Broken("output-range", found, "the reconstruction that fits a sample best is that sample", text, Severity.WARNING)


def _bounded_logits(bench: Bench, fact: ReconFact, data: tuple[float, float]) -> Broken | None:
    """Logits that an activation bounds so that no probability comes near one end of the data."""
    model, recon = bench.model, fact.pair.recon
    reach = value_range(model, recon) if data[0] <= _FAR and data[1] >= 1 - _FAR else None
    if reach is None or not all(is_free(r) for r in raw_outputs(recon, model.flow)):
        return None
    low = 0.0 if reach.open_below else _probability(reach.low)
    high = 1.0 if reach.open_above else _probability(reach.high)
    if low <= _FAR and high >= 1 - _FAR:
        return None
    squash = model.activation(recon) or reach.bound_by or fact.pair.meet
    births = model.birth_labels(squash, "made here")  # the layer that is chosen, not the line that calls it
    found = Found(
        births[0].span if births else model.where(squash),
        label=f"bounds the logits: the probability stays in [{low:.2g}, {high:.2g}]",
        labels=model.labels((fact.pair.meet, "takes it for logits")),
        why="the likelihood applies the sigmoid itself: what comes before it must be free, or data at 0 or at 1 cannot be reached",
        help="feed the last layer's output without an activation",
    )
    text = f"for data from {data[0]:g} to {data[1]:g} the probabilities go from {low:.2g} to {high:.2g}"
    return Broken("output-range", found, "the probability that fits a sample best is that sample", text)


def _probability(logit: float) -> float:
    return 1 / (1 + math.exp(-max(-700.0, min(700.0, logit))))


def _elements(fact: ReconFact) -> int:
    return math.prod(shape(fact.pair.recon)[1:])


def _no_zeros(bench: Bench, fact: ReconFact, data: tuple[float, float]) -> Broken | None:
    """Log rates that do not fall below 0, where the counts may be 0."""
    model, recon = bench.model, fact.pair.recon
    reach = value_range(model, recon) if data[0] == 0 and data[1] >= 1 else None
    given = set(model.record.inputs.values())
    if (
        reach is None
        or reach.open_below
        or math.exp(reach.low) < _SHORT
        or not all(is_free(r) for r in raw_outputs(recon, model.flow) if r not in given)
    ):
        return None
    squash = model.activation(recon) or reach.bound_by
    rate = math.exp(reach.low)
    found = Found(
        model.where(fact.pair.meet),
        label=f"takes {model.written(recon)} for the logarithm of the rate, and it is {reach.low:.3g} or more",
        labels=model.labels((squash, f"puts out {reach.low:.3g} or more")),
        why=f"the rate exp({model.written(recon)}) never falls below {rate:.3g}: counts of 0 cannot be reached, "
        "and every rate is the exponential of what was meant",
        help="say that it is the rate (poisson_nll_loss(rate, x, log_input=False)), or feed the layer's output without the activation",
    )
    text = f"the lowest rate that the decoder reaches is {rate:.3g}, and counts of 0 are in the data"
    return Broken("output-range", found, "the rate that fits a sample best is that sample", text)


def _rescaled_elsewhere(bench: Bench, fact: ReconFact, data: tuple[float, float]) -> Broken | None:
    """A reconstruction that reaches twice as far as the data, and as far as what the encoder gets for the data."""
    model, recon, target = bench.model, fact.pair.recon, fact.pair.target
    reach = value_range(model, recon)
    if target is None or reach is None or reach.open_below or reach.open_above or not (reach.bounded_below and reach.bounded_above):
        return None
    width = reach.high - reach.low
    if data[1] - data[0] > _TWICE * width or data[0] < reach.low - _SAME * width or data[1] > reach.high + _SAME * width:
        return None
    twin = next((n for n in _read_by_layers(model, target) if _is_alike(value_range(model, n), reach)), None)
    if twin is None:
        return None
    squash = model.activation(recon) or reach.bound_by
    found = Found(
        model.where(fact.pair.meet),
        label=f"the data here is in [{data[0]:g}, {data[1]:g}], the reconstruction in [{reach.low:.3g}, {reach.high:.3g}]",
        labels=model.labels((twin, "the encoder gets the data rescaled to what the decoder puts out"), (squash, "puts out this range")),
        why="the decoder puts out the rescaled data and is compared with the raw one: half of its range is never right, "
        "and what it decodes is not on the scale that the encoder reads",
        help="compare with the data that the encoder gets, or let the last activation have the range of the raw data",
    )
    text = f"the data takes {(data[1] - data[0]) / width:.0%} of what the decoder reaches, the data that the encoder gets all of it"
    return Broken("output-range", found, "decoder and data are on one scale", text)


def _read_by_layers(model: Model, target: fx.Node) -> Iterator[fx.Node]:
    """What a layer reads that was made of the target's inputs alone, without being the target."""
    flow = model.flow
    inputs = {n for n in flow.ancestors(target) if n.op == "placeholder" and declared_range(model, n) is not None}
    for layer in flow.sorted({n for n in flow.data if ops.uses_parameter(n)}):
        for node in ops.value_inputs(layer):
            if node in flow.data and node not in flow.learned and node not in inputs and flow.ancestors(node) & inputs:
                yield node


def _is_alike(one: Range | None, other: Range) -> bool:
    width = other.high - other.low
    return one is not None and abs(one.low - other.low) <= _SAME * width and abs(one.high - other.high) <= _SAME * width


def _nearest(model: Model, recon: fx.Node, wanted: float) -> torch.Tensor | None:
    """The reconstruction nearest to a constant that free outputs of the last layers, and parameters after them, make."""
    raw, replay, sizes = raw_outputs(recon, model.flow), model.replay, {**model.record.sizes, "B": 1}
    if not raw or recon in raw or not all(is_free(r) for r in raw):
        return None
    after = [n for n in model.flow.sorted(model.flow.ancestors(recon, stop={*raw})) if n.op == "get_attr" and n in model.flow.learned]
    shapes = {r: replay.shape_of(r, sizes) for r in [*raw, *after]}
    if sum(math.prod(s) for s in shapes.values()) > _LARGEST:
        return None
    start = {r: torch.zeros(shapes[r], dtype=torch.float64) for r in raw} | (replay(after, {}, sizes) if after else {})
    leaves = {r: v.requires_grad_() for r, v in start.items()}
    search = torch.optim.LBFGS(list(leaves.values()), max_iter=_STEPS, line_search_fn="strong_wolfe")

    def error() -> torch.Tensor:
        out: torch.Tensor = replay([recon], {r: v * 1 for r, v in leaves.items()}, sizes)[recon]
        return (out - wanted).square().sum()

    def step() -> float:
        at = error()
        for v, g in zip(leaves.values(), gradients(at, list(leaves.values())), strict=True):
            v.grad = torch.zeros_like(v) if g is None else g
        return float(at.detach())

    search.step(step)  # type: ignore[no-untyped-call]
    found: torch.Tensor = replay([recon], {r: v.detach() for r, v in leaves.items()}, sizes)[recon]
    return found
