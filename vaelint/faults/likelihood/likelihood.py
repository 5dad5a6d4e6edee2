"""Whether the reconstruction, its target and its likelihood go together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.anatomy.loss.layered import layered_nodes
from vaelint.anatomy.loss.terms import Leaf, same_values
from vaelint.anatomy.posterior.sites import frontier, sample_axes
from vaelint.anatomy.reconstruction.own_weight import is_weighed_by_itself
from vaelint.anatomy.reconstruction.pairs import Pair, picks_class
from vaelint.anatomy.reconstruction.recon import FAMILIES, fits_family, recon_gradient
from vaelint.core.reach import ends, reachable
from vaelint.faults.likelihood.joined import joined
from vaelint.faults.likelihood.targets import self_targets
from vaelint.faults.sampling.features_decoded import features_decoded
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.record.selections import picks_by_other_data
from vaelint.record.walk import behind
from vaelint.replay.exempt import exempt
from vaelint.replay.ranges import Range, declared_range, value_range
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_CHOICE = frozenset({"min", "max", "amin", "amax", "logsumexp", "topk", "kthvalue", "median", "quantile"})
"""What takes one of several values, or nearly."""


def broadcast(model: Model, fact: ReconFact) -> str | None:
    """VAE301: what the comparison of reconstruction and target stretches, or None when their shapes agree.

    One extra leading axis (several samples per input) is how importance-weighted bounds are written, and agrees.
    """
    pair = fact.pair
    if (
        pair.target is None
        or not isinstance(pair.target.meta.get("val"), torch.Tensor)
        or ops.op(pair.meet) in ("cross_entropy", "nll_loss")
        or picks_class(pair.meet, model.flow)
    ):
        return None
    r, t = shape(pair.recon), shape(pair.target)
    if not r or not t or r == t or _matched(model, pair) or not _may_meet(r, t) or _meet_alike(pair):
        return None
    texts_r, texts_t = model.dims(pair.recon), model.dims(pair.target)
    drawn = {shape(s.z)[d] for s in model.sites for d in sample_axes(s)}
    for back in range(1, min(len(r), len(t)) + 1):
        a, b = r[-back], t[-back]
        if a != b and 1 in (a, b) and a not in drawn:
            return f"{texts_r[-back]} meets {texts_t[-back]}"
    if len(t) > len(r) or (len(r) > len(t) and "B" in texts_r[: len(r) - len(t)]):
        return f"{len(r)} dimensions meet {len(t)}"
    return None


def _may_meet(r: Sequence[int], t: Sequence[int]) -> bool:
    """Whether torch would combine two shapes: of values that it refuses, something else has met, and nothing is known of it."""
    return all(a == b or 1 in (a, b) for a, b in zip(reversed(r), reversed(t), strict=False))


def _meet_alike(pair: Pair) -> bool:
    """Whether what meets has one shape: of the decoder's output a part was cut for it."""
    met = [shape(n) for n in ops.value_inputs(pair.meet)]
    return len(met) == 2 and met[0] == met[1]


def _matched(model: Model, pair: Pair) -> bool:
    """Whether all that is made of the comparison is a choice among the pairs: the distances of two sets, of which the nearest count."""

    def made_of(node: fx.Node) -> Iterable[fx.Node]:
        chosen = node is not pair.meet and (node not in model.reaching_loss or (ops.op(node) in _CHOICE and _fewer(node)))
        return () if chosen else model.flow.users.get(node, ())

    reached = reachable([pair.meet], made_of) - {pair.meet}
    return model.record.loss not in reached and any(ops.op(user) in _CHOICE for user in reached)


def _fewer(node: fx.Node) -> bool:
    """Whether a reduction, and no maximum of two values element by element."""
    sizes = [math.prod(shape(n)) for n in ops.value_inputs(node)]
    val = node.meta.get("val")
    return not isinstance(val, torch.Tensor) or math.prod(val.shape) < max(sizes, default=0)


@dataclass(frozen=True)
class Mismatch:
    """Declared data that the reconstruction cannot reach."""

    low: float
    high: float
    reach: Range


def output_mismatch(model: Model, fact: ReconFact) -> Mismatch | None:
    """Data outside of what the last activation can put out; only where the user declared a range."""
    data = target_range(model, fact)
    reach = value_range(model, fact.pair.recon)
    if data is None or reach is None or not all(math.isfinite(x) for x in data):
        return None
    width = data[1] - data[0]
    if width <= 0:
        return None
    below, above = data[0] < reach.low - 0.02 * width, data[1] > reach.high + 0.02 * width
    if (below and not reach.open_below) or (above and not reach.open_above):
        return Mismatch(data[0], data[1], reach)
    return None


def target_range(model: Model, fact: ReconFact) -> tuple[float, float] | None:
    """VAE309: the range of the target, by running what is done to the inputs over their declared ranges."""
    pair = fact.pair
    if pair.target is None:
        return None
    ancestors = model.flow.ancestors(pair.target)
    sources = [n for n in ancestors if n.op == "placeholder"]
    if not sources or any(declared_range(model, n) is None for n in sources) or pair.target in model.flow.learned:
        return None
    if any(_fills_its_diagonal(model, n) or picks_by_other_data(model.flow, n) for n in ancestors):
        return None
    if pair.target.op == "placeholder":
        return declared_range(model, pair.target)
    reach = value_range(model, pair.target)
    if reach is None:
        return None
    if math.isfinite(reach.low) and math.isfinite(reach.high):
        return reach.low, reach.high
    return declared_range(model, sources[0]) if not _rescaled(model, pair.target, sources[0]) else None


def _fills_its_diagonal(model: Model, node: fx.Node) -> bool:
    """Whether ones are put on the diagonal of an input: a graph's edges, which have nothing there, whatever vaelint made up for them."""
    parts = ops.value_inputs(node) if ops.op(node) in ops.ADD and len(shape(node)) > 1 and shape(node)[-1] == shape(node)[-2] else []
    made = [any(ops.op(n) in ("eye", "diag", "diag_embed") for n in model.flow.ancestors(p)) and p not in model.flow.data for p in parts]
    return any(made) and not all(made)


def _rescaled(model: Model, target: fx.Node, source: fx.Node) -> bool:
    between = model.flow.ancestors(target, stop={source}) - {source}
    return any(ops.op(n) not in ops.SHAPE | ops.CAST | ops.SELECT | {"effect"} for n in between)


def swapped_arguments(model: Model, fact: ReconFact) -> bool:
    """VAE307: whether a loss that is not symmetric gets the data as its prediction and the reconstruction as its target."""
    pair = fact.pair
    if fact.probe.kernel == "bce_swapped":
        return True
    if ops.op(pair.meet) not in (
        "binary_cross_entropy",
        "binary_cross_entropy_with_logits",
        "cross_entropy",
        "kl_div",
        "poisson_nll_loss",
        "nll_loss",
    ):
        return _exact_when_exchanged(pair, model)
    operands = ops.tensors(pair.meet.args)[:2]
    named = [pair.meet.kwargs.get("input"), pair.meet.kwargs.get("target")]
    first = named[0] if isinstance(named[0], fx.Node) else operands[0] if operands else None
    return first is pair.target and pair.target is not None and pair.target not in model.decoded


def _exact_when_exchanged(pair: Pair, model: Model) -> bool:
    """Whether a likelihood written out is none of the reconstruction, and exact as one of the data given the reconstruction."""
    term = next((t for t in model.terms if pair.leaf in t.leaves), None)
    fact = next((r for r in model.recons if r.pair is pair), None)
    if term is None or fact is None or model.record.loss is None or pair.target is None or not pair.target.meta["val"].is_floating_point():
        return False
    data = frontier([pair.target], model.flow)
    if fact.probe.kernel not in ("other", "negative_log_probability") or len(data) != 1 or shape(data[0]) != shape(pair.recon):
        return False
    if not data[0].meta["val"].is_floating_point():  # zeros told apart, say: nothing has a slope in it
        return False
    exchanged = replace(pair, recon=data[0], target=pair.recon)
    try:
        r, t, g = recon_gradient(exchanged, term, model.record.loss, model.replay, {**model.symbols, "B": 3}, {}, apart=False)
    except ReplayError:
        return False
    if t is None or g is None or t.shape != r.shape:
        return False
    return any(fits_family(g, FAMILIES[name](r, t)) for name in ("bce", "bce_with_logits", "poisson", "poisson_log"))


def _statistic(model: Model, fact: ReconFact, scale: fx.Node) -> bool:
    """A statistic of the reconstruction, as structural similarity divides by, is not a variance of its own."""
    return bool(_outputs(model, fact.pair.recon) & _outputs(model, scale))


def _held(model: Model, fact: ReconFact, scale: fx.Node) -> bool:
    return is_weighed_by_itself(fact.pair, model.flow)


NOT_GAUSSIAN = (
    ("divided by a statistic of the reconstruction", _statistic),
    ("each element is weighed with what the decoder put out, held", _held),
)
"""What keeps the rule silent about a decoder's second output."""

_OTHER_VARIANCE = "the log term uses another variance than the error is divided by"
_ADDED_FOR_SAFETY = 0.05  # what a small number that is added to a variance changes


def nll_fault(model: Model, fact: ReconFact) -> tuple[fx.Node, str] | None:
    """What is wrong with a Gaussian likelihood of learned variance.

    For -log N(t; r, s^2) = (r-t)^2/(2 s^2) + log s + const, the part without error must be -1/2 times the logarithm of the factor of the
    squared error, for every value of the variance head.
    """
    pair = fact.pair
    if ops.op(pair.meet) == "gaussian_nll_loss" and pair.extra and (unscaled := _raw_variance(model, pair, pair.extra[0])) is not None:
        return unscaled
    if fact.density is not None and fact.density.name != "gaussian":
        is_told = fact.density.fault and fact.density.name == "negative_binomial"  # of branches, the law on densities tells which
        return (fact.term.core or pair.meet, fact.density.fault) if is_told and not _goes_on(model, fact) else None
    scale = scale_of(model, fact)
    if fact.probe.kernel not in ("squared_error", "other") or scale is None or ops.op(pair.meet) == "gaussian_nll_loss":
        return None
    if any(h in pair.leaf.frontier for s in model.sites for h in s.heads):
        return None  # a bound that is one function of likelihood and KL
    if exempt(model, "VAE310", NOT_GAUSSIAN, pair.meet, model, fact, scale):
        return None
    raw = frontier([scale], model.flow)
    curve = _nll_curve(model, fact, same_values(raw[0] if len(raw) == 1 else scale))
    if curve is None:
        return None
    slope, offset, rest = curve
    if bool((slope <= 1e-12).any()):
        return None
    said = _wrong_formula(model, fact, slope.log(), offset, rest)
    return (joined(model, fact, scale), said) if said else None


def _wrong_formula(model: Model, fact: ReconFact, x: torch.Tensor, y: torch.Tensor, rest: float) -> str:
    """What is wrong with the part without error `y`, given the logarithms `x` of the factors of the squared error; empty for nothing.

    `rest` is what further terms leave in it. A term of weight 1 nat is a density, whatever the scale is called that its outputs give:
    e^2 / b^2 + log b is that of 2 s^2 = b^2.
    """
    if float(x.std()) < 1e-6:
        return "the error is not divided by the variance" if float(y.std()) > 1e-6 else ""
    if not _is_straight(x, y):
        return _OTHER_VARIANCE
    columns = torch.stack([x, torch.ones_like(x)], 1)
    slope_of_log, constant = (float(v) for v in torch.linalg.lstsq(columns, y.unsqueeze(1)).solution.flatten())
    weight, nats = -2 * slope_of_log, _nats(fact)
    if weight <= 0:
        return "the log term has the wrong sign"
    if nats is not None and abs(nats - 1) < _ADDED_FOR_SAFETY:
        return ""
    # where the log term is 0 the variance is 1, and the error must have the factor weight / 2; with or without constants
    beside = [math.prod(shape(r.pair.recon)) for r in model.recons if r.term is fact.term and r is not fact]
    others = sum(beside) / (sum(beside) + math.prod(shape(fact.pair.recon)))  # of several steps, each leaves its share of the constants
    for norm in _constants(nats):
        for left in (0.0, others * rest, rest) if beside else (0.0,):
            if abs((weight * norm - (constant - left)) / slope_of_log - math.log(weight / 2)) < _ADDED_FOR_SAFETY:
                return ""
    return _OTHER_VARIANCE


def _is_straight(x: torch.Tensor, y: torch.Tensor) -> bool:
    """Whether y moves with x at one rate, but for a small number that was added to a variance in one of its two places."""
    order = x.argsort()
    rates = y[order].diff() / x[order].diff()
    return float(rates.max() - rates.min()) <= _ADDED_FOR_SAFETY * max(float(rates.abs().max()), 1e-12)


def _nats(fact: ReconFact) -> float | None:
    """The weight of one element in nats, without the reduction; None where it is not known."""
    if fact.density is not None and fact.scaling is not None and fact.scaling.constant:
        return abs(fact.scaling.constant)
    return fact.learned_weight


def _constants(nats: float | None) -> Iterator[float]:
    """What an element may have beside its error and its log term, in units of its weight: log(2 pi) / 2, the 256 steps of a pixel."""
    shares = (1.0, 1.0 / nats) if nats else (1.0,)  # a constant that was added beside a weighed density is not weighed
    for normaliser, steps in product((0.0, 0.5 * math.log(2 * math.pi)), (0.0, math.log(256))):
        for own, other in product(shares, shares):
            yield own * normaliser + other * steps


def _goes_on(model: Model, fact: ReconFact) -> bool:
    """Whether other terms compare the data with what was decoded too: factors of one likelihood may lie in several.

    So may its cases lie in addends of one term, each under its mask, as those of zero and of other counts do: they read the same outputs.
    """
    own = set(fact.pair.leaf.frontier) & model.decoded if _is_masked(model, fact.pair.leaf) else set()
    leaves = [leaf for term in model.terms if term is not fact.term for leaf in term.leaves]
    leaves += [leaf for leaf in fact.term.leaves if leaf is not fact.pair.leaf and own & set(leaf.frontier)]
    given = [{*leaf.frontier, *leaf.factors} for leaf in leaves if any(f in model.decoded for f in leaf.frontier)]
    return any(n in model.flow.data and n not in model.flow.learned for ns in given for n in ns)


def _is_masked(model: Model, leaf: Leaf) -> bool:
    """Whether an addend counts only where a comparison of the data says so."""
    flow = model.flow
    made = {n for f in (*leaf.factors, *leaf.frontier) if f in flow.data and f not in flow.learned for n in flow.ancestors(f)}
    return any(ops.op(n) in ops.COMPARE for n in made)


def scale_of(model: Model, fact: ReconFact) -> fx.Node | None:
    """The decoder's output that is a likelihood's scale, or the one parameter that all elements share for it."""
    if fact.pair.extra:
        return fact.pair.extra[0]
    if fact.density is None or not fact.density.learned:
        return None
    inside = model.flow.ancestors(*(leaf.node for leaf in fact.term.leaves), stop=set(fact.pair.raw))
    own = [n for n in inside if n.meta.get("parameter")]
    return own[0] if len(own) == 1 else None


def _outputs(model: Model, node: fx.Node) -> set[fx.Node]:
    """The layers' outputs, or parts of one, that a value is worked out from without a further layer."""

    def sources(here: fx.Node) -> list[fx.Node] | None:
        if ops.uses_parameter(here) or ops.op(here) in ops.SELECT or ops.is_opaque(here):
            return None
        return [n for n in ops.value_inputs(here) if n in model.flow.learned]

    return ends([node], sources)


def _raw_variance(model: Model, pair: Pair, variance: fx.Node) -> tuple[fx.Node, str] | None:
    """gaussian_nll_loss takes a variance: a layer's raw output, at most cut from below, is a log-variance by mistake."""
    node = behind(variance, ops.SHAPE | ops.CAST | ops.SELECT | {"clamp", "clamp_min", "clip", "expand", "effect"})
    if ops.uses_parameter(node) and ops.op(node) in ops.LAYERS:
        return pair.meet, "its variance is a layer's raw output: a log-variance, or a value that can be negative"
    return None


def _nll_curve(model: Model, fact: ReconFact, head: list[fx.Node]) -> tuple[torch.Tensor, torch.Tensor, float] | None:
    """(factor of the squared error, value without error) per element, over a grid of the variance head, and what is left of the loss
    without either; None for other errors."""
    from vaelint.anatomy.loss.isolate import silence_others

    assert fact.pair.target is not None and model.record.loss is not None
    slopes, offsets = [], []
    sizes = {**model.symbols, "B": 1}
    try:
        quiet, own = silence_others(fact.term, model.replay, sizes), dict[fx.Node, torch.Tensor]()
        for leaf in fact.term.leaves:  # other reconstructions of the same term
            along = {*model.flow.ancestors(leaf.node), *leaf.chain}
            other = fact.pair.recon not in along and not along & set(head)
            (quiet if other else own)[leaf.node] = torch.zeros(model.replay.shape_of(leaf.node, sizes), dtype=torch.float64)
        rest = float(model.replay([model.record.loss], {**quiet, **own}, sizes)[model.record.loss].sum())  # the constants of each step
        for v in (0.3, 0.5, 0.8, 1.2, 1.7):
            at = []
            for delta in (0.0, 1.0, 2.0):
                values = {
                    **{h: torch.full(model.replay.shape_of(h, sizes), v, dtype=torch.float64) for h in head},
                    fact.pair.recon: torch.full(model.replay.shape_of(fact.pair.recon, sizes), delta, dtype=torch.float64),
                    fact.pair.target: torch.zeros(model.replay.shape_of(fact.pair.target, sizes), dtype=torch.float64),
                }
                at.append(float(model.replay([model.record.loss], {**quiet, **values}, sizes)[model.record.loss].sum()))
            if not abs(at[2] - at[0] - 4 * (at[1] - at[0])) <= 1e-6 * (abs(at[1] - at[0]) + abs(at[2] - at[0])):  # nor is NaN
                return None  # not quadratic in the error: a likelihood of counts, say
            slopes.append(at[1] - at[0])
            offsets.append(at[0])
    except ReplayError:
        return None
    return torch.tensor(slopes, dtype=torch.float64), torch.tensor(offsets, dtype=torch.float64), rest


def crossed_terms(model: Model) -> list[fx.Node]:
    """Sums and products of per-sample terms on the way up to the loss that pair every sample with every other."""
    found = []
    seen: set[fx.Node] = set()
    for leaf in model.leaves:
        for node in leaf.chain:
            if node in seen or ops.op(node) not in ops.ADD | ops.MUL | ops.DIV:
                continue
            seen.add(node)
            texts = model.dims(node)
            inputs = [n for n in ops.value_inputs(node) if isinstance(n.meta.get("val"), torch.Tensor) and n.meta["val"].dim() > 0]
            own = [sum("B" in t for t in model.dims(n)) for n in inputs]
            if sum("B" in t for t in texts) > max(own, default=0) and len(inputs) == 2 and len({n.meta["val"].dim() for n in inputs}) == 2:
                found.append(node)
    return found


def unused_reconstruction(model: Model) -> fx.Node | None:
    """The last decoded value of the run that has an input's shape, when the loss depends on nothing decoded."""
    if model.recons or self_targets(model) or any(t.role in ("reconstruction", "mixed") for t in model.terms):
        return None
    made = layered_nodes(model.flow, model.sites + model.idle_sites)
    if features_decoded(model) is not None or any(f in made for leaf in model.leaves for f in leaf.frontier):
        return None
    layers = [n for n in model.flow.sorted(made) if ops.uses_parameter(n) and isinstance(n.meta.get("val"), torch.Tensor)]
    return layers[-1] if layers else None
