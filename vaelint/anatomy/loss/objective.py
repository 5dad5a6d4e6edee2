"""What the loss amounts to: each term's weight as an expression of the sizes, and the effective beta of the whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import fx

from vaelint.anatomy.kl.bernoulli import fit_bernoulli
from vaelint.anatomy.kl.categorical import categorical_site, fit_categorical
from vaelint.anatomy.kl.gaussian import probe_kl
from vaelint.anatomy.kl.kl_drawn import drawn_weight
from vaelint.anatomy.kl.kl_families import GAUSSIAN, family_of
from vaelint.anatomy.kl.kl_gamma import measure_concentration
from vaelint.anatomy.kl.kl_points import random_points
from vaelint.anatomy.kl.kl_probe import KlProbe, Verdict
from vaelint.anatomy.kl.kl_slice import Slice, loose_ends
from vaelint.anatomy.kl.kl_whole import fit_whole
from vaelint.anatomy.loss.terms import Term, layered_nodes, part_of
from vaelint.anatomy.loss.weights import Factor, factors
from vaelint.anatomy.posterior.sites import Site, sample_axes
from vaelint.anatomy.reconstruction.density_kind import Density
from vaelint.anatomy.reconstruction.recon import Pair, ReconProbe, find_pairs, probe_recon, recon_gradient
from vaelint.record.flow import Flow
from vaelint.record.record import Record, shape
from vaelint.replay.measuring import bases, measured, own_symbols
from vaelint.replay.replay import Replay, ReplayError, gradients
from vaelint.replay.scale import Scaling, ratio
from vaelint.source.written import Source


@dataclass
class KlFact:
    """One posterior's KL: what it is, what it weighs."""

    term: Term
    site: Site | None
    probe: KlProbe
    scaling: Scaling | None = None
    factors: list[Factor] = field(default_factory=list)
    latent: tuple[str, ...] = ()  # the symbols of the latent's own dimensions
    silent: Scaling | None = None  # its weight without the factor that is 0 at this step
    silenced_by: fx.Node | None = None  # the product with that factor
    samples: tuple[str, ...] = ()  # those of axes along which the posterior is drawn several times
    inside: Scaling | None = None  # its weight inside of |KL - C|


@dataclass
class ReconFact:
    """One reconstruction against one target: what it is, what it weighs."""

    term: Term
    pair: Pair
    probe: ReconProbe
    scaling: Scaling | None = None
    factors: list[Factor] = field(default_factory=list)
    event: tuple[str, ...] = ()  # the symbols of the data's own dimensions
    learned_variance: bool = False  # the likelihood has its own log-variance: its scale is right by itself
    density: Density | None = None  # what it is as a density of the data, where the gradient at the reconstruction does not tell
    error: Scaling | None = None  # how its error alone is weighed, where `scaling` is that of a density whose scale is learned


@dataclass
class Beta:
    """Effective weight of a KL against a reconstruction, per sample, in units of the exact ELBO.

    For squared error (r - t)^2 is taken as the negative log-likelihood (a Gaussian of variance 1/2), unless it is written
    with a factor 1/2; `variance` is the decoder variance under which the loss is the exact ELBO.
    """

    scaling: Scaling
    kl: KlFact
    recon: ReconFact
    variance: float | None = None

    @property
    def value(self) -> float:
        """beta at the user's sizes."""
        return self.scaling.value


def name_dimensions(record: Record, sites: list[Site], symbols: dict[str, int], flow: Flow) -> None:
    """Gives the latent's own dimensions symbols (L; C', H', W' for maps) and writes them into the shapes around the posterior."""
    layered = layered_nodes(flow, sites)
    for site in sites:
        texts = record.shapes.get(site.z)
        if texts is None:
            continue
        size = shape(site.z)
        drawn = sample_axes(site)
        own = [d for d in range(len(size)) if texts[d].isdigit() and size[d] != 1 and d not in drawn]
        names = _latent_names(len(own), len(size) - len(drawn))
        mapping: dict[int, str] = {}
        for d, name in zip(own, names, strict=True):
            shared = next(
                (
                    s
                    for s, v in symbols.items()
                    if v == size[d] and s not in ("B",) and not s.startswith("L") and len(own) > 1 and d < len(size) - 1 and s == "T"
                ),
                None,
            )
            symbol = shared or name
            while symbol in symbols and symbols[symbol] != size[d]:
                symbol += "'"
            symbols.setdefault(symbol, size[d])
            mapping[d] = symbol
        for d in drawn:
            symbol = next(s for s in ("S", *(f"S{i}" for i in range(2, 99))) if symbols.get(s, size[d]) == size[d])
            symbols.setdefault(symbol, size[d])
            mapping[d] = symbol
        below = flow.descendants(*site.heads) if site.heads else set()
        around = flow.ancestors(site.z, stop=set(site.heads)) | (below - layered)
        for node in around:
            known = record.shapes.get(node)
            if known is None or len(known) != len(size) or node.op != "call_function":
                continue
            if all(known[d] == texts[d] or known[d] in ("1", mapping.get(d)) for d in range(len(size))):
                record.shapes[node] = tuple(mapping[d] if d in mapping and known[d] == texts[d] else known[d] for d in range(len(size)))


def _latent_names(count: int, rank: int) -> tuple[str, ...]:
    if count <= 1:
        return ("L",)[:count]
    if rank == 4 and count == 3:
        return ("Lc", "Lh", "Lw")
    return (*(f"L{i + 1}" for i in range(count - 1)), "L")


def measure_kl(
    term: Term, loss: fx.Node, sites: list[Site], flow: Flow, replay: Replay, symbols: Mapping[str, int], source: Source
) -> list[KlFact]:
    """Probes a KL term and measures how its weight moves with every size."""
    slice_ = loose_ends(term, loss, sites, flow, replay)
    chain = tuple(n for leaf in term.leaves for n in leaf.chain)
    found: list[KlFact] = []
    weights = factors(tuple(dict.fromkeys(chain)), source)
    for base in bases(symbols):
        probed = [KlFact(term, site, probe, factors=weights) for site, probe in probe_kl(slice_, base)]
        if not found or _told(probed) > _told(found):
            found = probed
        if _told(found) == 2:
            break
    for fact in found:
        _measure_discrete(fact, loss, replay, symbols)
        measure_concentration(fact, loss, replay, symbols)
        if fact.site is None or fact.probe.weight == 0.0 or not fact.site.mu_heads:
            continue
        texts, drawn = slice_.replay.texts_of(fact.site.z), sample_axes(fact.site)
        fact.latent = own_symbols(tuple(t for d, t in enumerate(texts) if d not in drawn), symbols)
        fact.samples = tuple(texts[d] for d in drawn if d < len(texts))
        fact.scaling = measured(partial(_kl_weight, slice_, fact), symbols, replay)
    _name_own_addends(found, flow)
    return found


def _name_own_addends(facts: list[KlFact], flow: Flow) -> None:
    """KLs of several latents that are added up: each has its own addends, where they lie apart, and so its own place in the source."""
    posteriors = [{f.site.z, *f.site.heads} if f.site is not None else set() for f in facts]
    own = [[leaf for leaf in f.term.leaves if at & {*leaf.frontier, leaf.node}] for f, at in zip(facts, posteriors, strict=True)]
    if len(facts) < 2 or not all(own) or sum(map(len, own)) != len({id(leaf) for leaves in own for leaf in leaves}):
        return
    for fact, leaves in zip(facts, own, strict=True):
        fact.term = part_of(fact.term, leaves, [fact.site] if fact.site is not None else [], flow)


def _told(facts: list[KlFact]) -> int:
    """How much a probe says: nothing, the part of the mean, all there is to say."""
    return max(({"unknown": 0, "mean_only": 1}.get(f.probe.verdict, 2) for f in facts), default=0)


def _measure_discrete(fact: KlFact, loss: fx.Node, replay: Replay, symbols: Mapping[str, int]) -> None:
    """A KL of a categorical or Bernoulli posterior, recognised by its values."""
    site = categorical_site(fact.term)
    if fact.site is not None or site is None:
        return

    def categorical(even: float, sizes: Mapping[str, int]) -> float:
        fitted = fit_categorical(fact.term, site, loss, replay, sizes, even)
        return 0.0 if fitted is None or fitted.logits_for_logs or fitted.fault else fitted.weight

    def bernoulli(even: float, sizes: Mapping[str, int]) -> float:
        fitted = fit_bernoulli(fact.term, site, loss, replay, sizes, even)
        return 0.0 if fitted is None else fitted.weight

    fact.latent = own_symbols(replay.texts_of(site.z), symbols)
    forms: tuple[tuple[Verdict, Callable[[float, Mapping[str, int]], float]], ...] = (
        ("bernoulli", bernoulli),
        ("categorical", categorical),
    )
    for verdict, weight in forms:
        fact.scaling = measured(weight, symbols, replay)
        if fact.scaling is not None:
            fact.probe = KlProbe("sign" if fact.scaling.constant < 0 else verdict, fact.scaling.constant, family=verdict.capitalize())
            return


def _kl_weight(slice_: Slice, fact: KlFact, even: float, sizes: Mapping[str, int]) -> float:
    """The term's weight on one latent element against the exact KL, all elements equal."""
    site, probe = fact.site, fact.probe
    assert site is not None
    if probe.whole:
        fitted = fit_whole(slice_, site, sizes, random_points(slice_, sizes, 0.8))  # far out, large covariances lose digits
        if fitted is None:
            raise ReplayError("the term is not the closed form at these sizes")
        return fitted[3]
    if probe.verdict == "drawn":
        return drawn_weight(slice_, site, sizes, 6.0 if probe.floor else 2.0, even) or 0.0
    height = 6.0 if probe.floor else 1.3
    values = {
        h: torch.full(slice_.replay.shape_of(h, sizes), height if h in site.mu_heads else 0.4, dtype=torch.float64) for h in slice_.heads
    }
    grads = slice_.gradients(sizes, values, draw=0.5, even=even)
    head = site.mu_heads[0]
    leaves = {h: v.clone().requires_grad_() for h, v in values.items()}
    m, s = slice_.moments(site, sizes, {h: v.clone() for h, v in leaves.items()})
    (dm,) = gradients(m, [leaves[head]])
    if dm is None or float(dm.abs().max()) == 0:
        return 0.0
    at = m.detach().flatten()[0]
    family = family_of(site)
    if probe.monte_carlo:
        drawn = slice_.replay([site.z], slice_.overrides(sizes, values, 0.3, 0.5, 0), sizes)[site.z].flatten()
        at = drawn[grads[head].abs().argmax()] if drawn.numel() == grads[head].numel() else drawn[0]
    g = grads[head]
    slope = float(dm.flatten()[0])
    if not probe.monte_carlo and m.numel() % g.numel() == 0:
        slope /= m.numel() // g.numel()  # of one of several draws of the posterior
    picked = g.flatten()[g.abs().argmax()]
    if family is GAUSSIAN:
        expected = float(at) - probe.prior[0]
    elif probe.monte_carlo or s is None:
        expected = float(family.score(at))
    else:
        expected = float(family.along_mean(at, s.detach().flatten()[0]))
    weight = float(picked) / (expected * slope) * (probe.prior[1] ** 2) if expected else 0.0
    return abs(weight) if probe.capacity else weight  # |KL - C| falls below its capacity


def measure_recon(
    term: Term, loss: fx.Node, flow: Flow, replay: Replay, symbols: dict[str, int], decoded: set[fx.Node], source: Source, sites: list[Site]
) -> list[ReconFact]:
    """Probes each reconstruction of a term and measures how its weight moves with every size."""
    found: list[ReconFact] = []
    seen: set[fx.Node] = set()
    for pair in find_pairs(term, flow, decoded, sites):
        if any(r in seen for r in pair.raw):
            continue
        seen.update(pair.raw)
        event = _name_event(pair, term, replay._record, symbols, flow)
        chain = tuple(n for n in pair.leaf.chain if n is not pair.meet)  # a product with the target is no weight
        fact = ReconFact(term, pair, ReconProbe("unknown"), factors=factors(chain, source), event=event)
        for base in bases(symbols):
            fact.probe = probe_recon(pair, term, loss, replay, base, {})
            if fact.probe.kernel != "unknown":
                break
        if fact.probe.weight:
            weight = partial(_recon_weight, fact, term, loss, replay)
            fact.scaling = measured(weight, symbols, replay, _class_symbol(fact, replay._record))
            fact.learned_variance = _has_learned_variance(term, pair, flow)
        found.append(fact)
    return found


def _class_symbol(fact: ReconFact, record: Record) -> str:
    """The symbol of the axis of classes: it is normalised over, not reduced."""
    texts = record.shapes.get(fact.pair.recon, ())
    axis = fact.probe.axis
    return texts[axis] if axis is not None and axis < len(texts) and not texts[axis].isdigit() and texts[axis] != "B" else ""


def _has_learned_variance(term: Term, pair: Pair, flow: Flow) -> bool:
    """Whether the likelihood has a part that sees no data: the logarithm of a variance that is learned."""
    if term.role != "reconstruction":
        return False
    others = [leaf for leaf in term.leaves if leaf is not pair.leaf and leaf.node in flow.learned]
    return any(not leaf.factors and not any(f in flow.data and f not in flow.learned for f in leaf.frontier) for leaf in others)


def _recon_weight(fact: ReconFact, term: Term, loss: fx.Node, replay: Replay, even: float, sizes: Mapping[str, int]) -> float:
    probe = probe_recon(fact.pair, term, loss, replay, sizes, {}, even=even)
    if probe.kernel == fact.probe.kernel and probe.kernel not in ("unknown", "other"):
        return probe.weight
    _, _, g = recon_gradient(fact.pair, term, loss, replay, sizes, {}, fill=(0.6, 0.3), even=even)
    return float(g.abs().max()) if g is not None else 0.0


def _name_event(pair: Pair, term: Term, record: Record, symbols: dict[str, int], flow: Flow) -> tuple[str, ...]:
    """Names the data dimensions where reconstruction and target meet, and writes them into the shapes between the two and the loss."""
    if pair.target is None or pair.recon not in record.shapes:
        return ()
    texts, size = record.shapes[pair.recon], shape(pair.recon)
    like = record.shapes.get(pair.target, ())
    named = list(texts)
    for d, text in enumerate(texts):
        if not text.isdigit() or size[d] == 1:
            continue
        back = len(texts) - d
        own = like[-back] if back <= len(like) and symbols.get(like[-back]) == size[d] else None
        known = own or next((s for s, v in symbols.items() if v == size[d] and not s.startswith("L") and s != "B" and s not in named), None)
        name = known or next(n for n in ("D", "E", "K", *(f"D{i}" for i in range(1, 99))) if n not in symbols)
        symbols.setdefault(name, size[d])
        named[d] = name
    leaves = [leaf.node for leaf in term.leaves]
    inside = flow.ancestors(*leaves, stop={*pair.raw, pair.recon, pair.target, *pair.extra}) | {
        n for leaf in term.leaves for n in leaf.chain
    }
    for node in {pair.recon, pair.target, *pair.extra, *inside}:
        if (
            node in record.shapes
            and node.op != "placeholder"
            and (node in (pair.recon, pair.target, *pair.extra) or len(record.shapes[node]) == len(named))
        ):
            known_texts = record.shapes[node]
            shift = len(named) - len(known_texts)
            record.shapes[node] = tuple(
                named[d + shift] if d + shift >= 0 and t.isdigit() and symbols.get(named[d + shift]) == int(t) else t
                for d, t in enumerate(known_texts)
            )
    used = record.shapes[pair.recon]
    return tuple(t for t in used if t in symbols and t != "B")


def joined_draws(known: list[ReconFact]) -> ReconFact:
    """The first reconstruction, with the weight of all that are compared with the same target: several draws of one posterior."""
    first = known[0]
    assert first.scaling is not None
    same = [
        r
        for r in known
        if r.scaling is not None
        and r.pair.target is first.pair.target
        and r.probe.kernel == first.probe.kernel
        and r.scaling.exponents == first.scaling.exponents
    ]
    if len(same) == 1:
        return first
    factor = sum(r.scaling.constant for r in same if r.scaling is not None) / first.scaling.constant
    return replace(first, scaling=Scaling(first.scaling.value * factor, first.scaling.exponents, first.scaling.constant * factor))


def likelihood_scaling(recon: ReconFact) -> Scaling | None:
    """The weight of the likelihood itself, in nats: with a learned variance the squared error's own weight moves as the variance does."""
    known = recon.scaling
    if known is None or not known.constant or not recon.learned_variance:
        return known
    return Scaling(math.copysign(known.value / known.constant, known.value), known.exponents, math.copysign(1.0, known.constant))


def effective_beta(kl: KlFact, recon: ReconFact, symbols: Mapping[str, int]) -> Beta | None:
    """beta = (KL weight) / (reconstruction weight), or None where one of them is unknown."""
    if kl.scaling is None or recon.scaling is None or not recon.scaling.constant or not kl.scaling.constant:
        return None
    likelihood = likelihood_scaling(recon)
    if likelihood is None:
        return None
    for s in kl.samples:  # the expectation is a mean over the draws: together they have the weight of one
        power = likelihood.exponents.get(s)
        if power is not None and s in recon.event:
            likelihood = Scaling(likelihood.value * symbols[s], {**likelihood.exponents, s: power + 1}, likelihood.constant)
    scaling = ratio(kl.scaling, likelihood, symbols)
    variance = None
    if recon.probe.kernel == "squared_error" and not recon.learned_variance and (recon.density is None or recon.density.name == "huber"):
        variance = scaling.value / 2
        if _halved(recon, kl):
            scaling = Scaling(scaling.value / 2, scaling.exponents, scaling.constant / 2)
    return Beta(scaling, kl, recon, variance)


def _halved(recon: ReconFact, kl: KlFact) -> bool:
    """Whether the squared error is written with the 1/2 of a unit-variance Gaussian.

    A factor that the KL has as well is none of its own.
    """
    assert recon.scaling is not None
    literal, shared = 1.0, 1.0
    both = {f.node for f in kl.factors}
    for f in recon.factors:
        if f.node in both:
            shared *= f.value if f.value is not None and f.origin in ("literal", "named") else 1.0
        elif f.origin == "literal" and f.value is not None:
            literal *= f.value
    constant = abs(recon.scaling.constant / shared) if shared else 0.0
    return abs(constant - 0.5) < 1e-9 or (abs(literal - 0.5) < 1e-9 and abs(constant - 1) > 1e-9)
