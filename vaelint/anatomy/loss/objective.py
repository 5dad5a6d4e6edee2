"""What the loss amounts to: each term's weight as an expression of the sizes, and the effective beta of the whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import fx

from vaelint.anatomy.dimensions import name_event
from vaelint.anatomy.kl.bernoulli import fit_bernoulli
from vaelint.anatomy.kl.categorical import categorical_site, fit_categorical
from vaelint.anatomy.kl.gaussian import probe_kl
from vaelint.anatomy.kl.kl_drawn import drawn_weight, stopped_weight
from vaelint.anatomy.kl.kl_families import GAUSSIAN, family_of
from vaelint.anatomy.kl.kl_gamma import measure_concentration
from vaelint.anatomy.kl.kl_points import random_points
from vaelint.anatomy.kl.kl_probe import KlProbe, Verdict
from vaelint.anatomy.kl.kl_slice import Slice, loose_ends
from vaelint.anatomy.kl.kl_whole import correlated_weight, fit_whole
from vaelint.anatomy.loss.facts import KlFact, ReconFact
from vaelint.anatomy.loss.term_weights import factors
from vaelint.anatomy.loss.terms import Term, part_of
from vaelint.anatomy.posterior.sites import Site, sample_axes
from vaelint.anatomy.reconstruction.output_parts import OutputParts
from vaelint.anatomy.reconstruction.own_weight import is_weighed_by_itself
from vaelint.anatomy.reconstruction.pairs import Pair, find_pairs
from vaelint.anatomy.reconstruction.recon import ReconProbe, probe_recon, recon_gradient
from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.record.record import Record, shape
from vaelint.replay.measuring import EVENS, bases, measured, own_symbols, picked_rows
from vaelint.replay.replay import Replay, ReplayError, gradients
from vaelint.source.written import Source


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
        if not found or (_told(probed), _told(probed, sum)) > (_told(found), _told(found, sum)):
            found = probed
        if _told(found, min) == 2:
            break
    for fact in found:
        _measure_discrete(fact, loss, replay, symbols)
        measure_concentration(fact, loss, replay, symbols)
        if fact.site is None or fact.probe.weight == 0.0 or not fact.site.mu_heads:
            continue
        texts, drawn = slice_.replay.texts_of(fact.site.z), sample_axes(fact.site)
        fact.latent = own_symbols(tuple(t for d, t in enumerate(texts) if d not in drawn), symbols)
        fact.samples = tuple(texts[d] for d in drawn if d < len(texts))
        fact.scaling = measured(partial(_kl_weight, slice_, fact), symbols, replay, at=fact.site.z)
        if fact.scaling is not None and _is_shared_out(slice_, fact, symbols):
            fact.scaling = None
    _name_own_addends(found, flow)
    return [f for f in found if not _is_of_another(f, term, found)]


def _is_of_another(fact: KlFact, term: Term, all_of_them: list[KlFact]) -> bool:
    """Whether a latent's mean is only what another's draw is held to: what was drawn there is drawn from that one's prior.

    log q(z) - log p(z | top) has mean and scale of p beside z, and nothing of a value that is drawn from p as well.
    """
    site, others = fact.site, {f.site.z for f in all_of_them if f.site is not None and f is not fact}
    if site is None or fact.probe.verdict not in ("other", "unknown") or any(site.z in leaf.frontier for leaf in term.leaves):
        return False
    met = [leaf for leaf in term.leaves if set(site.mu_heads) & set(leaf.frontier)]
    return bool(met) and all(others & set(leaf.frontier) for leaf in met)


def _name_own_addends(facts: list[KlFact], flow: Flow) -> None:
    """KLs of several latents that are added up: each has its own addends, where they lie apart, and so its own place in the source."""
    posteriors = [{f.site.z, *f.site.heads} if f.site is not None else set() for f in facts]
    own = [[leaf for leaf in f.term.leaves if at & {*leaf.frontier, leaf.node}] for f, at in zip(facts, posteriors, strict=True)]
    if len(facts) < 2 or not all(own) or sum(map(len, own)) != len({id(leaf) for leaves in own for leaf in leaves}):
        return
    for fact, leaves in zip(facts, own, strict=True):
        fact.term = part_of(fact.term, leaves, [fact.site] if fact.site is not None else [], flow)


def _told(facts: list[KlFact], of: Callable[[list[int]], int] = max) -> int:
    """How much probes say: nothing, the part of the mean, all there is to say."""
    return of([{"unknown": 0, "mean_only": 1}.get(f.probe.verdict, 2) for f in facts]) if facts else 0


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

    texts, drawn = replay.texts_of(site.z), sample_axes(site)
    fact.latent = own_symbols(tuple(t for d, t in enumerate(texts) if d not in drawn), symbols)
    fact.samples = tuple(texts[d] for d in drawn if d < len(texts))
    forms: tuple[tuple[Verdict, Callable[[float, Mapping[str, int]], float]], ...] = (
        ("bernoulli", bernoulli),
        ("categorical", categorical),
    )
    for verdict, weight in forms:
        fact.scaling = measured(weight, symbols, replay, at=site.z)
        if fact.scaling is not None:
            fact.probe = KlProbe("sign" if fact.scaling.constant < 0 else verdict, fact.scaling.constant, family=verdict.capitalize())
            return


def _is_shared_out(slice_: Slice, fact: KlFact, symbols: Mapping[str, int]) -> bool:
    """Whether a KL to a fixed prior weighs what another output of a network says, as in spike and slab: then no number is its weight."""
    if not slice_.others or fact.probe.prior != (0.0, 1.0):
        return False
    for base in bases(symbols):
        try:
            here, there = (_kl_weight(slice_, fact, EVENS[0], base, fill) for fill in (0.3, -0.6))
        except ReplayError:
            continue
        return abs(here - there) > 1e-3 * abs(here)
    return False


def _kl_weight(slice_: Slice, fact: KlFact, even: float, sizes: Mapping[str, int], fill: float = 0.3) -> float:
    """The term's weight on one latent element against the exact KL, all elements equal; the other ends of the term are at `fill`."""
    site, probe = fact.site, fact.probe
    assert site is not None
    if probe.correlated:
        return correlated_weight(slice_, site, sizes, random_points(slice_, sizes, 0.8)) or 0.0
    if probe.whole:
        fitted = fit_whole(slice_, site, sizes, random_points(slice_, sizes, 0.8))  # far out, large covariances lose digits
        if fitted is None:
            raise ReplayError("the term is not the closed form at these sizes")
        return fitted[3]
    if probe.verdict == "drawn":
        return drawn_weight(slice_, site, sizes, 6.0 if probe.floor else 2.0, even) or 0.0
    if probe.stopped:
        return stopped_weight(slice_, site, sizes, 2.0, even) or 0.0
    height = 6.0 if probe.floor else 1.3
    values = {
        h: torch.full(slice_.replay.shape_of(h, sizes), height if h in site.mu_heads else 0.4, dtype=torch.float64) for h in slice_.heads
    }
    grads = slice_.gradients(sizes, values, fill, draw=0.5, even=even)
    head = site.mu_heads[0]
    leaves = {h: v.clone().requires_grad_() for h, v in values.items()}
    m, s = slice_.moments(site, sizes, {h: v.clone() for h, v in leaves.items()})
    (dm,) = gradients(m, [leaves[head]])
    if dm is None or float(dm.abs().max()) == 0:
        return 0.0
    mine = int(dm.flatten().abs().gt(0).nonzero()[0]) if dm.numel() == m.numel() else 0  # of a mixture not every sample is a member's
    at = m.detach().flatten()[mine]
    family = family_of(site)
    if probe.monte_carlo:
        drawn = slice_.replay([site.z], slice_.overrides(sizes, values, 0.3, 0.5, 0), sizes)[site.z].flatten()
        at = drawn[grads[head].abs().argmax()] if drawn.numel() == grads[head].numel() else drawn[0]
    g = grads[head]
    slope = float(dm.flatten()[mine])
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
    parts = OutputParts(flow, replay, symbols)
    for pair in find_pairs(term, flow, decoded, sites):
        if not parts.is_new(pair):
            continue
        event = name_event(pair, term, replay._record, symbols, flow)
        stacked = _stacked(pair, replay)
        chain = tuple(
            n for n in (*pair.leaf.chain, *_under_masks(pair, flow)) if n is not pair.meet
        )  # a product with the target is no weight
        fact = ReconFact(term, pair, ReconProbe("unknown"), factors=factors(chain, source), event=event, stacked=stacked)
        for base in bases(symbols):
            fact.probe = probe_recon(pair, term, loss, replay, base, {})
            if fact.probe.kernel != "unknown":
                break
        if fact.probe.kernel == "other":
            fact.probe = _let_through(fact, term, loss, replay, symbols) or fact.probe
        if fact.probe.weight:
            weight = partial(_recon_weight, fact, term, loss, replay)
            fact.scaling = measured(weight, symbols, replay, _class_symbol(fact, replay._record), pair.recon)
            if fact.scaling is not None:
                fact.scaling = fact.scaling.holding(_sizes_that_change_rows(fact, flow, replay, symbols, sites), symbols)
            picked = picked_rows(replay, pair.recon)
            fact.share = picked[1] / symbols["B"] if picked is not None and "B" in symbols else 1.0
            fact.rounds = _rounds(pair, replay, symbols)
            fact.learned_variance = _has_learned_variance(term, pair, flow)
            if is_weighed_by_itself(pair, flow):
                fact.scaling = None  # each element has a weight of its own
        found.append(fact)
    return found


def _sizes_that_change_rows(fact: ReconFact, flow: Flow, replay: Replay, symbols: Mapping[str, int], sites: list[Site]) -> list[str]:
    """The sizes at which there would be more draws than samples: where `reshape(-1, n)` makes rows of what is more in a larger picture.

    Asked is only a weight that moves with them, of a model that lays out its rows so.
    """
    target, moving = fact.pair.target, [s for s, e in fact.scaling.exponents.items() if e and s != "B"] if fact.scaling is not None else []
    draws = [s.z for s in sites]
    laid = (n for n in flow.ancestors(*draws) if ops.op(n) in ("reshape", "view"))
    if target is None or not draws or not moving or not any(map(_starts_open, laid)):
        return []

    def rows(sizes: Mapping[str, int]) -> list[int]:
        got = replay(draws, {target: torch.zeros(replay.shape_of(target, sizes), dtype=torch.float64)}, sizes)
        return [got[z].shape[0] for z in draws]

    try:
        return [s for s in moving if rows({**symbols, s: 2 * symbols[s]}) != rows(symbols)]
    except (ReplayError, IndexError):
        return []


def _starts_open(node: fx.Node) -> bool:
    """Whether a layout leaves the number of rows open: `view(-1, n)`."""
    given = node.args[1] if len(node.args) == 2 else node.args[1:]
    return isinstance(given, tuple | list) and given[:1] in ((-1,), [-1])


def _under_masks(pair: Pair, flow: Flow) -> list[fx.Node]:
    """What is multiplied or added up before a mask sets a part of it to 0: the factors there weigh the error, too."""
    found: list[fx.Node] = []
    node = pair.leaf.node
    while node is not pair.meet and ops.op(node) in ops.MUL | ops.DIV | ops.LINEAR_REDUCE | ops.CAST | {"neg", "masked_fill"}:
        live = [n for n in ops.value_inputs(node) if n in flow.learned]
        if len(live) != 1 or (ops.op(node) == "masked_fill" and node.args[2:] not in ((0,), (0.0,))):
            break
        found.append(node)
        node = live[0]
    return found if any(ops.op(n) == "masked_fill" for n in found) else []


def _let_through(fact: ReconFact, term: Term, loss: fx.Node, replay: Replay, symbols: Mapping[str, int]) -> ReconProbe | None:
    """The likelihood that elements are weighed with values of the data: where all of these are alike.

    There any slope is a number times the data: it takes no log-probability to have one.
    """
    for base in bases(symbols):
        for even in EVENS[:2]:
            probe = probe_recon(fact.pair, term, loss, replay, base, {}, even=even)
            if probe.kernel not in ("other", "unknown", "negative_log_probability"):
                return replace(probe, reason="weighed by values of the data")
    return None


def _stacked(pair: Pair, replay: Replay) -> tuple[str, ...]:
    """The symbols of axes in front of those that reconstruction and target share."""
    r, t = replay.texts_of(pair.recon), replay.texts_of(pair.target) if pair.target is not None else ()
    return tuple(s for s in r[: -len(t)] if s != "B") if t and r[-len(t) :] == t else ()


def _rounds(pair: Pair, replay: Replay, symbols: Mapping[str, int]) -> int:
    """How often each row of the batch is compared, one round after another, as with `torch.cat([x, x])` for two draws of each sample."""
    target, rows = pair.target, 3
    first = replay.texts_of(target)[:1] if target is not None else ()
    if target is None or not first or "*B" not in first[0] or not first[0].replace("*B", "").isdigit():
        return 1
    try:
        if len(shape(target)) < 2:
            return _rounds_of_labels(target, replay, {**symbols, "B": 7})
        value = replay([target], {}, {**symbols, "B": rows})[target].detach().flatten(1)
    except ReplayError:
        return 1
    times, rest = divmod(len(value), rows)
    return times if not rest and len(value.unique(dim=0)) == rows else 1


def _rounds_of_labels(target: fx.Node, replay: Replay, sizes: Mapping[str, int]) -> int:
    """The same of one number a row, which several rows have alike: each label stands as often, whatever the labels are."""
    times = 0
    for seed in range(3):
        value = replay([target], {}, sizes, seed=seed)[target].detach()
        times, rest = divmod(len(value), sizes["B"])
        again = (value[: sizes["B"]].repeat(times), value[::times].repeat_interleave(times)) if not rest and times > 1 else ()
        if len(value.unique()) < 2 or not any(torch.equal(value, other) for other in again):
            return 1
    return times


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
