"""Judgements on the scale of the objective: which exponent is off, and the expression that makes it so."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from torch import fx

from vaelint.anatomy.kl.kl_probe import KNOWN
from vaelint.anatomy.loss.facts import Beta, KlFact, ReconFact
from vaelint.anatomy.loss.reducers import averaging, averaging_more, keeps_another, outermost_average, summing
from vaelint.anatomy.loss.term_weights import Factor
from vaelint.anatomy.loss.terms import Term
from vaelint.anatomy.reconstruction.learned_scale import scale_addends
from vaelint.faults.kl.tied_batch import with_batch
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.record.record import Record, shape, span
from vaelint.record.walk import behind
from vaelint.replay.per_model import per_model
from vaelint.replay.ranges import declared_values
from vaelint.replay.scale import Scaling

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_SLACK = 1e-4  # a small constant in a logarithm moves a weight by less

ScaleFault = Literal["batch", "data", "spread", "latent", "axis", "twice", "half", "literal", "log"]


@dataclass(frozen=True)
class ScaleVerdict:
    """What is off about an effective beta, where, and whether a named weight is in the way."""

    fault: ScaleFault
    node: fx.Node | None
    explicit: bool  # a named weight multiplies the KL: the user chose it
    beta: Beta

    @property
    def is_twice_the_elbo(self) -> bool:
        """Whether the squared error has no 1/2 either: the whole is exactly twice the ELBO of a Gaussian decoder with variance 1."""
        variance = self.beta.variance
        return self.fault == "half" and self.beta.kl.inside is None and variance is not None and abs(abs(variance) - 1) <= _SLACK


@per_model
def scale_verdicts(model: Model) -> list[ScaleVerdict]:
    """VAE401 to VAE406, VAE414: the fault of each effective beta, one for each place in the source."""
    if model.record.loss is not None and model.elements(model.record.loss) > 1:
        return []  # who reduces it later decides on its scale
    record, weighted = model.record, bool(model.step.unknown_weights)
    judged = [judge_scale(with_batch(without_masks(b, model), record), record, model.symbols, weighted) for b in model.betas]
    judged = [v and log_verdict(v, model.flow, model.symbols) for v in judged]
    seen: dict[Any, ScaleVerdict] = {}
    for v in judged:
        if v is not None:
            seen.setdefault((v.fault, span(v.node) if v.node is not None else None), v)
    return list(seen.values())


def without_masks(beta: Beta, model: Model) -> Beta:
    """The beta with the weights of the reconstruction alone that are no mask: an input of zeros and ones says which values count."""
    kept = [f for f in beta.recon.factors if f.origin != "tensor" or not any(_is_declared_mask(model, n) for n in f.node.all_input_nodes)]
    return replace(beta, recon=replace(beta.recon, factors=kept))


def _is_declared_mask(model: Model, node: fx.Node) -> bool:
    return set(declared_values(model, behind(node, ops.CAST | ops.SHAPE | {"getitem"})) or (2.0,)) <= {0.0, 1.0}


def judge_scale(beta: Beta, record: Record, sizes: Mapping[str, int], weighted: bool = False) -> ScaleVerdict | None:
    """The one fault of a beta, or None. `weighted` says that the loss has a weight whose value is not known.

    A dependence on the batch is always a fault; one on other sizes only if the number is far from 1.
    """
    kl, recon = beta.kl, beta.recon
    if kl.probe.verdict not in KNOWN or kl.scaling is None or recon.scaling is None:
        return None
    if recon.probe.weight < 0 or recon.probe.kernel == "unknown" or any(e != round(e) for e in beta.scaling.exponents.values() if e):
        return None
    if kl.scaling.exponents.get("B", 0.0) is None or recon.scaling.exponents.get("B", 0.0) is None:
        return None
    explicit = weighted or named_weight(kl.factors, kl.scaling, sizes) or named_weight(recon.factors, recon.scaling, sizes)
    off = _off(beta, kl.scaling, recon.scaling)
    if beta.scaling.exponents.get("B"):
        return _judge_batch(beta, record, off, kl.scaling, explicit)
    if _is_doubled(kl):
        return ScaleVerdict("half", kl.term.core, False, beta)
    if 0.4 < abs(beta.value) < 2.5:
        return _half(beta, beta.scaling.exponents, sizes)
    if recon.probe.kernel == "other" or recon.probe.relative:
        return None  # its weight is known up to a constant only
    return _judge_far(beta, record, off, sizes, explicit, weighted)


def log_verdict(verdict: ScaleVerdict, flow: Flow, sizes: Mapping[str, int]) -> ScaleVerdict:
    """The same; where errors are added up over the sizes in question and the logarithm of their learned scale is not, that is at fault."""
    recon = verdict.beta.recon
    if verdict.fault not in ("data", "batch") or not _is_counted_less(verdict.beta, recon, sizes):
        return verdict
    logs = scale_addends(recon, flow)
    if len(logs) != 1:
        return verdict
    node = logs[0].node if logs[0].node.op == "call_function" else logs[0].chain[-1]
    return ScaleVerdict("log", node, verdict.explicit, verdict.beta)


def _is_counted_less(beta: Beta, recon: ReconFact, sizes: Mapping[str, int]) -> bool:
    """Whether the logarithm of a learned scale is divided by the sizes that beta moves with, and the errors are not."""
    if recon.scaling is None:
        return False
    if recon.error is not None:
        moving = {s for s, e in beta.scaling.exponents.items() if e}
        gap = {s for s in moving if (recon.error.exponents.get(s) or 0.0) == (recon.scaling.exponents.get(s) or 0.0) + 1}
        return bool(moving) and moving == gap
    summed = all(recon.scaling.exponents.get(s) == 0.0 for s in recon.event)
    return summed and recon.learned_weight is not None and _is_one(recon.learned_weight * math.prod(sizes[s] for s in recon.event))


def _is_one(number: float) -> bool:
    return abs(number - 1) < _SLACK


@dataclass(frozen=True)
class _Off:
    """The sizes that a beta moves with and should not."""

    latent: dict[str, float]  # of the latent's own, with the KL's exponent
    event: dict[str, float]  # of the data's own, with the reconstruction's
    spread: list[str]  # of the data's, which the KL is summed over as well


def _off(beta: Beta, of_kl: Scaling, of_recon: Scaling) -> _Off:
    """What of a KL's and a reconstruction's exponents is off; a sequence's time axis belongs to both."""
    whole = beta.scaling.exponents
    latent = {s: of_kl.exponents.get(s) or 0.0 for s in beta.kl.latent}
    event = {s: of_recon.exponents.get(s) or 0.0 for s in beta.recon.event if s not in beta.kl.samples}
    shared = set(latent) & set(event)
    return _Off(
        {s: e for s, e in latent.items() if e and (s not in shared or (whole.get(s) and not event[s]))},
        {s: e for s, e in event.items() if e and (s not in shared or (whole.get(s) and not latent[s]))},
        [s for s in event if s not in latent and (of_kl.exponents.get(s) or 0.0) > 0 and not event[s]],
    )


def _judge_batch(beta: Beta, record: Record, off: _Off, of_kl: Scaling, explicit: bool) -> ScaleVerdict | None:
    """The fault of a beta that moves with the batch."""
    core, batch, own = beta.kl.term, beta.scaling.exponents.get("B") or 0.0, of_kl.exponents.get("B") or 0.0
    if own < -1 and batch < 0 and not off.event and not off.latent:
        return ScaleVerdict("twice", batch_divisor(core, record), False, beta)
    if off.event and not off.latent and batch > 0:
        if explicit:
            return ScaleVerdict("batch", _batch_node(beta, record), False, beta)
        return ScaleVerdict("data", _recon_reducer(beta, record, off.event), False, beta)
    if off.latent and batch > 0 and own == 0.0 and _reduces_batch_wrongly(core, record):
        return ScaleVerdict("axis", _latent_reducer(beta, record, off.latent), False, beta)
    if batch_literal(beta) is not None:
        return None  # a baked batch size: the shapes family says so
    return ScaleVerdict("batch", _batch_node(beta, record), False, beta)


def _judge_far(beta: Beta, record: Record, off: _Off, sizes: Mapping[str, int], explicit: bool, weighted: bool) -> ScaleVerdict | None:
    """The fault of a beta that is far from 1; none where both terms are averaged over their own sizes under a weight that was chosen."""
    kl = beta.kl
    if off.spread and not off.latent and not off.event:
        return ScaleVerdict("spread", _spreading(kl.term, record, off.spread), explicit, beta)
    if explicit and (weighted or not (off.latent and not off.event and _weighs_nothing(kl, beta.recon, sizes))):
        return ScaleVerdict("data", _recon_reducer(beta, record, off.event), True, beta) if off.event and not off.latent else None
    if off.latent and not off.event:
        partly = len(kl.latent) > 1 and len(off.latent) < len(kl.latent)
        return ScaleVerdict("axis" if partly else "latent", _latent_reducer(beta, record, off.latent), False, beta)
    beyond = beyond_literal(beta)
    if off.event and beyond is not None:
        # a mean over the data with a small number on the summed KL is a known convention; two means and a number are not
        return ScaleVerdict("literal", beyond.node, not off.latent, beta)
    if beyond is not None:
        return ScaleVerdict("literal", beyond.node, False, beta)
    if off.event or _is_size_ratio(beta, sizes):
        return ScaleVerdict("data", _recon_reducer(beta, record, off.event), False, beta)
    return None


def _is_size_ratio(beta: Beta, sizes: Mapping[str, int]) -> bool:
    """Whether beta is the number of data elements, or that over the number of latents.

    These are sizes that could not be varied, and so are in the number.
    """
    data = math.prod(sizes.get(s, 1) for s in beta.recon.event)
    latent = math.prod(sizes.get(s, 1) for s in beta.kl.latent)
    terms = math.prod(shape(beta.recon.pair.target or beta.recon.pair.recon)) / max(1, sizes.get("B", 1))
    if any(abs(beta.value / n - 1) < 1e-6 for n in (data, data / latent, terms, terms / latent) if n > 2.5):
        return True
    written = [f.value for f in (*beta.kl.factors, *beta.recon.factors) if f.origin == "literal"]
    if any(v not in (1.0, -1.0, 0.5, -0.5) for v in written):
        return False
    assert beta.recon.scaling is not None
    fixed = [sizes[s] for s in beta.recon.event if s in sizes and beta.recon.scaling.exponents.get(s) is None]
    some = {math.prod(part) for count in range(1, len(fixed) + 1) for part in itertools.combinations(fixed, count)}
    units = (1, 2) if beta.variance is not None else (1,)  # a squared error without its 1/2 is a common convention
    return any(abs(beta.value / (n * unit) - 1) < 1e-6 for n in some if n > 2.5 for unit in units)


def named_weight(factors: list[Factor], scaling: Scaling, sizes: Mapping[str, int]) -> bool:
    """Whether a weight with a name (an attribute, an argument, a schedule, a learned scale) is among the factors.

    A name for the 1/2 of the formula, for a sign, or for one over a size that the term moves with, is no name of a weight.
    """
    return any(f.origin == "tensor" or (f.origin == "named" and not _is_part(f, scaling, sizes)) for f in factors)


def _is_part(factor: Factor, scaling: Scaling, sizes: Mapping[str, int]) -> bool:
    if factor.value is None:
        return False
    value = abs(factor.value)
    if factor.value == -1 or (value == 0.5 and abs(abs(scaling.constant) - 1) < 1e-6):
        return True
    return any(abs(value * sizes.get(s, 0) - 1) < 1e-9 for s, e in scaling.exponents.items() if e is not None and e < 0 and s != "B")


def beyond_literal(beta: Beta) -> Factor | None:
    """A bare number among the KL's factors that is far from the 1/2 and signs of the formula."""
    candidates = [f for f in beta.kl.factors if f.origin == "literal" and f.value is not None and not 0.2 <= abs(f.value) <= 5]
    return candidates[0] if candidates else None


def batch_literal(beta: Beta) -> fx.Node | None:
    """A division of the KL by a number that happens to be the batch size of this run."""
    size = beta.scaling.exponents.get("B")
    if not size or not 0.99 < abs(beta.value) < 1.01:
        return None
    return next((f.node for f in beta.kl.factors if f.origin in ("literal", "named") and f.value not in (None, 1.0, -1.0, 0.5, -0.5)), None)


def _half(beta: Beta, exponents: Mapping[str, float | None], sizes: Mapping[str, int]) -> ScaleVerdict | None:
    """beta = 2 with a KL written without its 1/2: a weight that is there and is 1, or is on a part of the formula alone, makes no beta."""
    kl, recon = beta.kl, beta.recon
    if any(exponents.values()) or kl.scaling is None or recon.scaling is None:
        return None
    parts = [set(leaf.chain) for leaf in kl.term.leaves if leaf.frontier]
    whole = [f for f in kl.factors if f.value != 1.0 and (f.origin != "tensor" or all(f.node in chain for chain in parts))]
    if named_weight(whole, kl.scaling, sizes) or named_weight([f for f in recon.factors if f.value != 1.0], recon.scaling, sizes):
        return None
    if abs(beta.value - 2) > _SLACK or abs(abs(kl.scaling.constant) - 2) > _SLACK:
        return None
    return ScaleVerdict("half", kl.term.core, False, beta)


def _weighs_nothing(kl: KlFact, recon: ReconFact, sizes: Mapping[str, int]) -> bool:
    """Whether all weights that have names are 1: they say that the loss is meant to be an ELBO."""
    return not any(
        fact.scaling is None or named_weight([f for f in fact.factors if f.value != 1.0], fact.scaling, sizes) for fact in (kl, recon)
    )


def _is_doubled(kl: KlFact) -> bool:
    """Whether a KL that is held at a capacity in nats counts every latent twice, whatever the weight of the whole."""
    inside = kl.inside
    return inside is not None and abs(abs(inside.constant) - 2) < _SLACK and not any(e for s, e in inside.exponents.items() if s != "B")


def _kl_node(term: Term) -> fx.Node | None:
    """The outermost reduction of the term before it joins others, else its core."""
    reducers = [n for n in _own_chain(term) if ops.op(n) in ops.LINEAR_REDUCE]
    return reducers[-1] if reducers else term.core


def _own_chain(term: Term) -> list[fx.Node]:
    """Nodes above the core that hold this term alone, innermost last."""
    if term.core is None:
        return []
    chain = term.leaves[0].chain
    above = list(chain[: chain.index(term.core)]) if term.core in chain else list(chain)
    joins = [i for i, n in enumerate(above) if ops.op(n) in ops.ADD and len([a for a in ops.value_inputs(n) if a.meta.get("grad")]) > 1]
    return above[joins[-1] + 1 :] if joins else above


def _latent_reducer(beta: Beta, record: Record, symbols: Collection[str]) -> fx.Node | None:
    """The operation that averages over dimensions of the latent's own."""
    return averaging(_links(beta.kl.term), record, symbols) or _kl_node(beta.kl.term)


def _spreading(term: Term, record: Record, symbols: Collection[str]) -> fx.Node | None:
    """The operation that gives the term a dimension of the data, by meeting something that has it."""
    links = _links(term)
    for outer, inner in itertools.pairwise(links):
        if any(s in record.shapes.get(outer, ()) and s not in record.shapes.get(inner, ()) for s in symbols):
            return outer
    grown = (o for o, i in itertools.pairwise(links) if len(ops.value_inputs(o)) > 1 and math.prod(shape(o)) > math.prod(shape(i)))
    return next(grown, _kl_node(term))


def _batch_node(beta: Beta, record: Record) -> fx.Node | None:
    """Where the KL is reduced over the batch: the sum beside a mean, the mean beside a sum."""
    links, batch = _links(beta.kl.term), beta.scaling.exponents.get("B") or 0.0
    own = (*_own_chain(beta.kl.term), beta.kl.term.leaves[0].node)
    if batch > 0:
        found = summing(links, record, "B")
    else:
        # a mean of both terms is no fault of the KL: the reconstruction was one number for the whole batch before it
        found = outermost_average(own, record, "B") or summing(beta.recon.pair.leaf.chain, record, "B")
    return found or outermost_average(links, record, "B") or _kl_node(beta.kl.term)


def _links(term: Term) -> tuple[fx.Node, ...]:
    """The operations from the loss down to the term's first addend, itself included."""
    return (*term.leaves[0].chain, term.leaves[0].node)


def _reduces_batch_wrongly(term: Term, record: Record) -> bool:
    """Whether the KL is summed over the batch axis alone."""
    return any(keeps_another(n, record) for n in _links(term))


def batch_divisor(term: Term, record: Record) -> fx.Node | None:
    """The outermost operation that divides by the batch size."""
    for node in term.leaves[0].chain:
        name = ops.op(node)
        if name in ops.MUL | ops.DIV and (node.meta.get("moving") or any(a.meta.get("scalar") for a in node.all_input_nodes)):
            return node
        if name in ("mean", "nanmean") and isinstance(node.args[0], fx.Node):
            texts, dims = record.shapes.get(node.args[0], ()), ops.dims_of(node)
            if dims is not None and any(d < len(texts) and "B" in texts[d] for d in dims) and ops.op(node.args[0]) not in ops.ADD:
                return node
    return _kl_node(term)


def _recon_reducer(beta: Beta, record: Record, symbols: Collection[str]) -> fx.Node | None:
    """Where the reconstruction is averaged over the data's dimensions."""
    pair = beta.recon.pair
    if ops.op(pair.meet) in ops.LOSSES and pair.meet.kwargs.get("reduction", "mean") == "mean":
        return pair.meet
    links = (*pair.leaf.chain, pair.leaf.node)
    return averaging(links, record, symbols) or averaging_more(links, record) or pair.meet
