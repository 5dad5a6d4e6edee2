"""A KL that is no single closed form: taken apart into what it is made of, or measured below a weight that is 0 at this step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import fx

from vaelint.anatomy.kl.kl_batch import BatchFit, fit_covariance, fit_total_correlation, measured_weight, mixes_samples
from vaelint.anatomy.kl.kl_bent import bent_kl, facts_inside
from vaelint.anatomy.kl.kl_probe import KNOWN, KlProbe
from vaelint.anatomy.kl.kl_slice import Slice, loose_ends
from vaelint.anatomy.loss.facts import KlFact, PartFact
from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.objective import measure_kl
from vaelint.anatomy.loss.terms import Leaf, Role, Term, gather
from vaelint.anatomy.posterior.sites import Site
from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.replay.measuring import bases, measured, own_symbols
from vaelint.replay.replay import Replay, ReplayError, gradients
from vaelint.replay.scale import Scaling
from vaelint.source.written import Source

PART_WORDS = {
    "alpha": "index-code mutual information",
    "beta": "total correlation",
    "gamma": "dimension-wise KL",
    "kl": "Gaussian KL to N(0, 1)",
    "lambda_od": "off-diagonal covariance of the codes, squared",
    "lambda_d": "diagonal covariance of the codes against 1, squared",
    "batch": "a penalty on the minibatch's codes",
    "pull": "a pull of the posterior towards another value",
}


def read_kl(
    term: Term, loss: fx.Node, sites: list[Site], flow: Flow, replay: Replay, symbols: Mapping[str, int], source: Source
) -> tuple[list[KlFact], list[PartFact]]:
    """Probes a KL term; where it is no closed form of its own, the parts it is made of."""
    rest = (sites, flow, replay, symbols, source)
    kinds = _by_kind(term, sites, flow)
    if len(kinds) > 1:
        read = [read_kl(part, loss, *rest) for part in kinds]
        return [f for facts, _ in read for f in facts], [p for _, parts in read for p in parts]
    facts = measure_kl(term, loss, *rest)
    held = bent_kl(term, sites, flow)
    if held is not None:
        above = weight_of(held.outer, loss, replay, symbols)
        inside = facts_inside(held, facts, above.constant if above is not None else 0.0, partial(_measured, *rest), flow, replay, symbols)
        if inside is not facts:
            return inside, []
    if any(f.probe.verdict not in ("other", "unknown", "wrong") for f in facts):
        return facts, []
    below = _below_zero(term, flow, replay, symbols)
    if below is not None:
        inner, root, outer = below
        silent = measure_kl(inner, root, *rest)
        above = weight_of(outer, loss, replay, symbols)
        if silent and all(f.probe.verdict in KNOWN for f in silent):
            return [replace(f, term=term, factors=facts[0].factors, scaling=None, silent=_times(f.scaling, above)) for f in silent], []
    facts, parts = _taken_apart(term, loss, facts, *rest)
    beside = _pull_beside(term, loss, *rest) if not parts else None
    return beside if beside is not None else (facts, parts)


def _pull_beside(
    term: Term, loss: fx.Node, sites: list[Site], flow: Flow, replay: Replay, symbols: Mapping[str, int], source: Source
) -> tuple[list[KlFact], list[PartFact]] | None:
    """Addends that measure the posterior against something else, such as a teacher's mean, beside those that are an exact KL to N(0, 1)
    by themselves: a penalty of its own."""
    pulls = [leaf for leaf in term.leaves if loose_ends(gather("kl", [leaf], sites, flow), loss, sites, flow, replay).others]
    for own in _without(pulls, term) if pulls else ():
        facts = measure_kl(gather("kl", own, sites, flow), loss, sites, flow, replay, symbols, source)
        if facts and all(f.probe.verdict == "exact" for f in facts):
            rest = gather("other", [leaf for leaf in term.leaves if leaf not in own], sites, flow)
            return facts, [_beside("pull", rest, loss, replay, symbols)]
    return None


def _without(pulls: list[Leaf], term: Term) -> Iterator[list[Leaf]]:
    """The addends that may be a KL by themselves: all but the pulls; else those of a sum of the term's that has no pull in it, as the
    entropy of the posterior is an addend of a KL between two of them as well."""
    own = [leaf for leaf in term.leaves if leaf not in pulls]
    if own:
        yield own
    seen = [own]
    for link in dict.fromkeys(n for leaf in own for n in leaf.chain):
        under = [leaf for leaf in term.leaves if link in leaf.chain]
        if under not in seen and not any(leaf in pulls for leaf in under):
            seen.append(under)
            yield under


def _beside(kind: str, term: Term, loss: fx.Node, replay: Replay, symbols: Mapping[str, int]) -> PartFact:
    """Addends of a KL's term that are none of the KL's."""
    weight = weight_of(term.leaves[0], loss, replay, symbols)
    return PartFact("other", kind, "", weight, term.core, addends=tuple(leaf.node for leaf in term.leaves))


def _measured(
    sites: list[Site], flow: Flow, replay: Replay, symbols: Mapping[str, int], source: Source, term: Term, root: fx.Node
) -> list[KlFact]:
    return measure_kl(term, root, sites, flow, replay, symbols, source)


def _by_kind(term: Term, sites: list[Site], flow: Flow) -> list[Term]:
    """A KL of discrete latents beside one of continuous ones: each is measured alone, where their addends lie apart."""
    discrete = {n for s in term.sites if s.kind == "categorical" for n in (s.z, *s.heads)}
    other = {n for s in term.sites if s.kind != "categorical" for n in (s.z, *s.heads)}
    groups = [[leaf for leaf in term.leaves if nodes & {leaf.node, *leaf.frontier}] for nodes in (discrete, other)]
    apart = len(groups[0]) + len(groups[1]) == len(term.leaves) and not any(leaf in groups[1] for leaf in groups[0])
    return [gather(term.role, leaves, sites, flow) for leaves in groups] if apart and all(groups) else []


def _below_zero(term: Term, flow: Flow, replay: Replay, symbols: Mapping[str, int]) -> tuple[Term, fx.Node, Leaf] | None:
    """The term below the one factor 0 that all its addends have, as the whole of a loss of its own; its root, and the product with 0."""
    shared = [n for n in term.leaves[0].chain if ops.op(n) in ops.MUL and all(n in leaf.chain for leaf in term.leaves)]
    for link in reversed(shared):
        if not _has_zero(link, flow, replay, symbols):
            continue
        cut = [(leaf, leaf.chain.index(link) + 1) for leaf in term.leaves]
        roots = {leaf.chain[i] if i < len(leaf.chain) else leaf.node for leaf, i in cut}
        if len(roots) == 1:
            leaves = [replace(leaf, chain=leaf.chain[i:]) for leaf, i in cut]
            first = term.leaves[0].chain
            return replace(term, leaves=leaves), roots.pop(), Leaf(link, first[: first.index(link)])
    return None


def _times(one: Scaling | None, other: Scaling | None) -> Scaling | None:
    """The product of two weights; a size that is unknown in one of them is unknown."""
    if one is None or other is None:
        return None
    powers = {s: (one.exponents.get(s, 0.0), other.exponents.get(s, 0.0)) for s in {**one.exponents, **other.exponents}}
    exponents = {s: None if a is None or b is None else a + b for s, (a, b) in powers.items()}
    return Scaling(one.value * abs(other.value), exponents, one.constant * abs(other.constant))


def _has_zero(link: fx.Node, flow: Flow, replay: Replay, symbols: Mapping[str, int]) -> bool:
    for arg in link.args:
        if isinstance(arg, int | float) and not isinstance(arg, bool) and arg == 0:
            return True
        if isinstance(arg, fx.Node) and arg not in flow.data and isinstance(arg.meta.get("val"), torch.Tensor):
            try:
                value = replay([arg], {}, symbols)[arg]
            except ReplayError:
                continue
            if isinstance(value, torch.Tensor) and value.numel() and not bool(value.any()):
                return True
    return False


def _taken_apart(
    term: Term,
    loss: fx.Node,
    facts: list[KlFact],
    sites: list[Site],
    flow: Flow,
    replay: Replay,
    symbols: Mapping[str, int],
    source: Source,
) -> tuple[list[KlFact], list[PartFact]]:
    """The addends that see the whole minibatch on one side, those that see one sample at a time on the other."""
    whole = loose_ends(term, loss, sites, flow, replay)
    site = next((s for s in whole.sites if s.kind == "gaussian" and s.scale is not None), None)
    if site is None:
        return facts, []
    mixing = _mixing(term, loss, sites, flow, replay, symbols)
    if not mixing:
        return facts, []
    if whole.draws:
        parts = _parts(whole, site, symbols, fit_total_correlation, term.core)
        return ([replace(facts[0], site=site, probe=KlProbe("decomposed"))], parts) if parts else (facts, [])
    single = [leaf for leaf in term.leaves if leaf not in mixing]
    penalty = gather("kl", mixing, sites, flow)
    parts = _parts(loose_ends(penalty, loss, sites, flow, replay), site, symbols, fit_covariance, penalty.core)
    parts = parts or [_beside("batch", penalty, loss, replay, symbols)]
    if not single:
        return [replace(f, probe=KlProbe("decomposed")) for f in facts], parts
    return measure_kl(gather("kl", single, sites, flow), loss, sites, flow, replay, symbols, source), parts


def _mixing(term: Term, loss: fx.Node, sites: list[Site], flow: Flow, replay: Replay, symbols: Mapping[str, int]) -> list[Leaf]:
    """The addends that see more than one sample, asked at the first sizes at which they all run."""
    slices = [(leaf, loose_ends(gather("kl", [leaf], sites, flow), loss, sites, flow, replay)) for leaf in term.leaves]
    for base in bases(symbols):
        try:
            return [leaf for leaf, slice_ in slices if slice_.heads and mixes_samples(slice_, base)]
        except ReplayError:
            continue
    return []


def _parts(
    slice_: Slice,
    site: Site,
    symbols: Mapping[str, int],
    fitter: Callable[[Slice, Site, Mapping[str, int]], BatchFit | None],
    node: fx.Node | None,
) -> list[PartFact]:
    known: dict[tuple[tuple[str, int], ...], BatchFit | None] = {}

    def fitted(sizes: Mapping[str, int]) -> BatchFit | None:
        key = tuple(sorted(sizes.items()))
        if key not in known:
            known[key] = fitter(slice_, site, sizes)
        return known[key]

    first = _first(fitted, symbols)
    if first is None:
        return []
    own = own_symbols(slice_.replay.texts_of(site.z), symbols)
    found = []
    for name, value in first.weights.items():
        scaling = measured(partial(_weight, fitted, name), symbols, slice_.replay) if value else None
        if scaling is not None:
            role: Role = "other" if name.startswith("lambda") else "kl"
            found.append(PartFact(role, first.kind, name, scaling, node, own))
    return found


def _first(fitted: Callable[[Mapping[str, int]], BatchFit | None], symbols: Mapping[str, int]) -> BatchFit | None:
    for base in bases(symbols):
        try:
            return fitted(base)
        except ReplayError:
            continue
    return None


def _weight(fitted: Callable[[Mapping[str, int]], BatchFit | None], name: str, even: float, sizes: Mapping[str, int]) -> float:
    return measured_weight(fitted(sizes), name)


def weight_of(
    leaf: Leaf, loss: fx.Node, replay: Replay, symbols: Mapping[str, int], units: Callable[[Mapping[str, int]], float] = lambda _: 1.0
) -> Scaling | None:
    """d loss / d one element of an addend, the largest of all: the loss is linear in it. `units`: how many of them count as one."""

    def weight(even: float, sizes: Mapping[str, int]) -> float:
        at = torch.zeros(replay.shape_of(leaf.node, sizes), dtype=torch.float64, requires_grad=True)
        quiet = silence_others(Term("other", [leaf]), replay, sizes)
        out = replay([loss], {**quiet, leaf.node: at.clone()}, sizes, even=even)[loss]
        (g,) = gradients(out, [at]) if out.requires_grad else (None,)
        return units(sizes) * float(g.flatten()[g.abs().argmax()]) if g is not None and g.numel() else 0.0

    return measured(weight, symbols, replay, at=leaf.node)
