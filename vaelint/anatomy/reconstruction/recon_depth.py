"""What a reconstruction is beyond its gradient at small errors: robust far away, of a variance that is learned, of counts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import fx

from vaelint.anatomy.loss.facts import ReconFact
from vaelint.anatomy.loss.objective import measure_recon
from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.anatomy.posterior.sites import Site
from vaelint.anatomy.reconstruction.density_kind import Density, read_density
from vaelint.anatomy.reconstruction.pairs import Pair
from vaelint.anatomy.reconstruction.recon import ReconProbe, recon_gradient
from vaelint.record.flow import Flow
from vaelint.replay.measuring import bases, measured, own_symbols
from vaelint.replay.replay import Replay, ReplayError
from vaelint.source.written import Source

_FAR = 40.0
_OF_SCALE = ("squared_error", "absolute_error", "log_cosh")  # kernels whose density may have a scale that is learned
_UNSURE = ("other", "unknown", "cross_entropy_soft", "negative_log_probability")


def read_recon(
    term: Term, loss: fx.Node, flow: Flow, replay: Replay, symbols: dict[str, int], decoded: set[fx.Node], source: Source, sites: list[Site]
) -> list[ReconFact]:
    """The reconstructions of a term; those that their gradient at the reconstruction does not tell are read as densities of the data."""
    facts = measure_recon(term, loss, flow, replay, symbols, decoded, source, sites)
    for fact in facts:
        if fact.probe.kernel == "squared_error":
            _look_far(fact, term, loss, replay, symbols)
        if fact.density is None and _is_open(fact, term, flow):
            _read(fact, fact.pair.leaf, term, loss, flow, replay, symbols)
    once = [f for i, f in enumerate(facts) if not f.whole or f.whole not in {other.whole for other in facts[:i]}]
    return [f for f in once if not _is_gate_of_another(f, once, flow)] or _unpaired(term, loss, flow, replay, symbols, decoded)


def _is_gate_of_another(fact: ReconFact, facts: list[ReconFact], flow: Flow) -> bool:
    """Whether an output that meets which counts are 0 is the share of zeros of a density that was measured whole."""
    counts = [f.pair.target for f in facts if f is not fact and _is_zero_inflated(f)]
    if fact.probe.kernel not in ("other", "unknown") or fact.pair.target is None or _is_zero_inflated(fact):
        return False
    return any(target is not None and target in flow.ancestors(fact.pair.target) for target in counts)


def _is_zero_inflated(fact: ReconFact) -> bool:
    return fact.density is not None and not fact.density.fault and fact.density.name.startswith("zero_inflated")


def _is_open(fact: ReconFact, term: Term, flow: Flow) -> bool:
    """Whether the gradient at the reconstruction leaves something to be told: a kernel, or a scale that is learned."""
    if fact.probe.kernel in _UNSURE:
        return (fact.probe.kernel in ("other", "unknown") and not fact.probe.reason.endswith("another shape")) or len(term.leaves) > 1
    inside = flow.ancestors(fact.pair.leaf.node, stop={*fact.pair.leaf.frontier, fact.pair.recon})
    scaled = fact.learned_variance or bool(fact.pair.extra) or any(n.meta.get("parameter") for n in inside)
    return fact.probe.kernel in _OF_SCALE and scaled


def _read(fact: ReconFact, leaf: Leaf, term: Term, loss: fx.Node, flow: Flow, replay: Replay, symbols: Mapping[str, int]) -> None:
    found = read_density(term, leaf, loss, flow, replay, symbols)
    if found is None:
        return
    density, scaling, at = found
    if fact.probe.kernel in ("cross_entropy_soft", "negative_log_probability") and density.name != "bernoulli":
        return
    fact.density, fact.whole = density, frozenset(other.node for other in at.term.leaves)
    if density.fault:
        return
    if fact.probe.kernel in _UNSURE:
        fact.probe = ReconProbe(density.name, density.weight)
    else:
        fact.error = fact.scaling
    fact.scaling, fact.learned_variance = scaling, False
    if not fact.event:
        fact.event = own_symbols(replay.texts_of(at.target), symbols)


def _unpaired(term: Term, loss: fx.Node, flow: Flow, replay: Replay, symbols: Mapping[str, int], decoded: set[fx.Node]) -> list[ReconFact]:
    """A reconstruction whose parts nowhere meet one to one: several components for each element of the data."""
    leaf = next((leaf for leaf in term.leaves if any(f in decoded for f in leaf.frontier)), None)
    if leaf is None or term.detached is not None:
        return []
    raw = tuple(f for f in leaf.frontier if f in decoded)
    fact = ReconFact(term, Pair(leaf, raw[0], None, leaf.node, raw), ReconProbe("unknown"))
    _read(fact, leaf, term, loss, flow, replay, symbols)
    return [fact] if fact.density is not None and not fact.density.fault else []


def _look_far(fact: ReconFact, term: Term, loss: fx.Node, replay: Replay, symbols: Mapping[str, int]) -> None:
    """Squared errors that are absolute ones far from 0 (Huber 1964), or the logarithm of their own mean: the variance that fits best."""
    for base in bases(symbols):
        try:
            near, far = (_weights(fact, term, loss, replay, base, shift) for shift in (0.0, _FAR))
        except ReplayError:
            continue
        if near is None or far is None:
            return
        (w, d), (v, e) = near, far
        if w.numel() == 0:
            return  # nothing of this reconstruction is compared
        if bool(((v - w).abs() <= 1e-5 * w.abs().max()).all()):
            return
        pull = (v * e).abs()
        if float(pull.max() - pull.min()) <= 1e-5 * float(pull.max()):
            fact.density = Density("huber", fact.probe.weight, {"delta": float(pull.max() / w.abs().max())})
        elif _logs(w, d, v, e):
            scaling = measured(partial(_log_weight, fact, term, loss, replay), symbols, replay)
            if scaling is not None:
                fact.scaling, fact.learned_variance = scaling, False
                fact.density = Density("gaussian_optimal", scaling.value)
        return


def _weights(
    fact: ReconFact, term: Term, loss: fx.Node, replay: Replay, sizes: Mapping[str, int], shift: float, even: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """(weight of the squared error, error), element by element, with the target moved away by `shift`."""
    r, t, g = recon_gradient(fact.pair, term, loss, replay, sizes, {}, even=even, shift=shift)
    if t is None or g is None or t.shape != r.shape or not t.is_floating_point():
        return None
    used = g != 0
    return (g / (2 * (r - t)))[used], (r - t)[used]


def _logs(w: torch.Tensor, d: torch.Tensor, v: torch.Tensor, e: torch.Tensor) -> bool:
    """Whether weight times mean squared error stays what it was: the loss is the logarithm of that mean, over all or over each sample."""
    if w.numel() != v.numel():
        return False
    for rows in (1, *(n for n in range(2, w.numel()) if w.numel() % n == 0)):
        before, after = ((a * b.square()).reshape(rows, -1).mean(1) for a, b in ((w, d), (v, e)))
        if bool(((before - after).abs() <= 1e-5 * before.abs().max()).all()):
            return True
    return False


def _log_weight(fact: ReconFact, term: Term, loss: fx.Node, replay: Replay, even: float, sizes: Mapping[str, int]) -> float:
    found = _weights(fact, term, loss, replay, sizes, 0.0, even)
    if found is None:
        raise ReplayError("no error to weigh at these sizes")
    return 2 * float((found[0] * found[1].square()).mean())
