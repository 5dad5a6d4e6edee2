"""A KL inside of a function that bends it, |KL - C| (Burgess et al. 2018) or max(KL, floor) (Kingma et al. 2016): measured inside.

Outside, the sign is lost: |-KL - C| has the gradient of KL + C wherever C > 0, max(-KL, floor) has none at all, and a wrong formula has
two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import fx

from vaelint.anatomy.kl.kl_families import GAUSSIAN
from vaelint.anatomy.kl.kl_points import values_of
from vaelint.anatomy.kl.kl_probe import KNOWN
from vaelint.anatomy.kl.kl_slice import loose_ends
from vaelint.anatomy.loss.facts import KlFact
from vaelint.anatomy.loss.terms import Leaf, Term, assign_roles, expand
from vaelint.anatomy.posterior.sites import Site
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.replay.measuring import bases
from vaelint.replay.replay import Replay, ReplayError

_LIMITS = frozenset({"clamp", "clip", "clamp_min", "clamp_max", "relu", "threshold", "maximum", "minimum", "max", "min", "fmax", "fmin"})
_SLACK = 1e-6  # of the weight: a capacity below it is none


@dataclass(frozen=True)
class Held:
    """What stands inside of the function, as a loss of its own."""

    term: Term  # the KL inside
    root: fx.Node  # KL - C
    outer: Leaf  # the function, an addend of the loss
    even: bool  # a modulus or a square; else a floor, a ceiling or both


def bent_kl(term: Term, sites: list[Site], flow: Flow) -> Held | None:
    """The KL inside of the one addend of a term; None where it bends nothing, or something else than a KL and constants."""
    outer = term.leaves[0]
    even = _even(outer.node)
    root = even or _limited(outer.node, flow)
    if len(term.leaves) > 1 or root is None or outer.detached is not None:
        return None
    leaves = expand(root, flow, {s.z for s in sites} | {h for s in sites for h in s.heads})
    inside = assign_roles(leaves, sites, flow)
    if len(inside) != 1 or inside[0].role != "kl" or inside[0].detached is not None or len(inside[0].leaves) < 2:
        return None
    return Held(inside[0], root, outer, even is not None)


def _even(node: fx.Node) -> fx.Node | None:
    """x for |x|, x^2, x * x."""
    name, first = ops.op(node), node.args[0] if node.args else None
    second = node.args[1] if len(node.args) > 1 else node.kwargs.get("exponent")
    even = name in ("abs", "square") or (name == "pow" and second == 2) or (name in ops.MUL and second is first)
    return first if even and isinstance(first, fx.Node) else None


def _limited(node: fx.Node, flow: Flow) -> fx.Node | None:
    """x for clamp(x, min=c), relu(x), maximum(x, c)."""
    learned = [n for n in ops.value_inputs(node) if n in flow.learned]
    return learned[0] if ops.op(node) in _LIMITS and len(learned) == 1 else None


def facts_inside(
    held: Held,
    outside: list[KlFact],
    weight: float,
    measure: Callable[[Term, fx.Node], list[KlFact]],
    flow: Flow,
    replay: Replay,
    symbols: Mapping[str, int],
) -> list[KlFact]:
    """What is measured inside, with the weight that it has outside; `outside` where nothing is told inside.

    `weight` is that of the function in the loss.
    """
    chain = (*held.outer.chain, held.outer.node)
    term = replace(held.term, leaves=[replace(leaf, chain=(*chain, *leaf.chain)) for leaf in held.term.leaves])
    found = []
    for fact in measure(held.term, held.root):
        twin = next((o for o in outside if o.site and fact.site and o.site.heads == fact.site.heads), None)
        if twin is None or fact.probe.verdict in ("other", "unknown"):
            return outside
        probe = replace(fact.probe, capacity=held.even, floor=not held.even)
        if probe.verdict == "sign" or probe.verdict in KNOWN or twin.probe.verdict in KNOWN:
            turned = _adds_up(held, fact, replay, flow, symbols) if held.even else _never_above(fact, twin, weight)
            probe = replace(probe, verdict="sign", inside=True) if turned else twin.probe
        factors = [*twin.factors, *(f for f in fact.factors if f not in twin.factors)]
        found.append(replace(twin, term=term, probe=probe, factors=factors, inside=fact.scaling if held.even else None))
    return found or outside


def _never_above(inside: KlFact, outside: KlFact, weight: float) -> bool:
    """Whether a floor gets minus the KL, which never rises above it, so that nothing of it is left; `weight` is that of the floor."""
    return inside.probe.verdict == "sign" and outside.probe.verdict == "unknown" and weight > 0


def _adds_up(held: Held, fact: KlFact, replay: Replay, flow: Flow, symbols: Mapping[str, int]) -> bool:
    """Whether the KL to N(0, 1) and the constant beside it have one sign, so that nothing is ever held at the constant."""
    site = fact.site
    if site is None or fact.probe.prior != (0.0, 1.0) or fact.probe.learned_prior or fact.probe.family != GAUSSIAN.name:
        return False
    slice_ = loose_ends(held.term, held.root, [site], flow, replay)
    for sizes in bases(symbols):
        heads = values_of(slice_.heads, replay, sizes, 1.0, 3)
        try:
            mean, scale = slice_.moments(site, sizes, heads)
            whole = replay([held.root], heads, sizes)[held.root]
        except ReplayError:
            continue
        if scale is None or scale.shape != mean.shape:
            return False
        divergence = 0.5 * (mean.square() + scale.square() - 1 - scale.square().log()).sum()
        constant = float(whole.double().sum() - fact.probe.weight * divergence)
        return constant * fact.probe.weight > _SLACK * fact.probe.weight**2
    return False
