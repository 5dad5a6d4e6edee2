"""Monte Carlo KLs whose log q and log p are not taken at one and the same z."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.anatomy.loss.factors_of_one import is_baseline
from vaelint.anatomy.loss.terms import Leaf
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.finding import Span
from vaelint.faults.gradients.cuts import reconstruction_ends
from vaelint.faults.sampling.estimators import feeds_reconstruction
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.frames import frame_beside
from vaelint.record.record import span

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


@dataclass(frozen=True)
class SplitDraws:
    """An estimate at two points: the one that the other log-density has, the odd one, and where the odd one is put in."""

    place: Span | None
    usual: fx.Node
    odd: fx.Node
    of_score: bool = False  # the log-density is multiplied by what the other draw was worth


def split_draws(model: Model) -> list[SplitDraws]:
    """Those with one draw in log q and another in log p, and those whose log p is taken at the posterior's mean."""
    by_heads: dict[tuple[fx.Node, ...], list[Site]] = {}
    for s in model.sites:
        by_heads.setdefault(s.heads, []).append(s)
    found = [pair for sites in by_heads.values() if len({s.z for s in sites}) > 1 for pair in _of_two_draws(model, sites)]
    return found + _at_mean(model) + _scores_of_other_draws(model)


def _of_two_draws(model: Model, sites: list[Site]) -> list[SplitDraws]:
    heads, zs = set(sites[0].heads), {s.z for s in sites}
    seen = [leaf for leaf in model.leaves if leaf.role in ("kl", "prior") and zs & set(leaf.frontier)]
    of_q, of_p = ([leaf for leaf in seen if bool(heads & set(leaf.frontier)) is has] for has in (True, False))
    in_q = {f for leaf in of_q for f in leaf.frontier if f in zs}
    apart = [f for leaf in of_p for f in leaf.frontier if f in zs and f not in in_q]
    if not in_q or not apart:
        return []
    first, second = model.flow.sorted(in_q)[0], apart[0]
    idle_in_q = feeds_reconstruction(model, second) and not feeds_reconstruction(model, first)
    usual, odd = (second, first) if idle_in_q else (first, second)
    mine, other = (next(leaf for leaf in seen if z in leaf.frontier) for z in (odd, usual))
    return [SplitDraws(frame_beside(mine.node, other.node), usual, odd)]


def _at_mean(model: Model) -> list[SplitDraws]:
    found = []
    for fact in model.kls:
        site = fact.site
        if fact.probe.verdict != "at_mean" or site is None:
            continue
        of_p: list[Leaf] = [
            leaf for leaf in fact.term.leaves if site.z not in leaf.frontier and any(h in leaf.frontier for h in site.mu_heads)
        ]
        of_q = [leaf for leaf in fact.term.leaves if site.z in leaf.frontier]
        if of_p and of_q:
            found.append(SplitDraws(frame_beside(of_p[0].node, of_q[0].node), site.z, site.mu or site.mu_heads[0]))
    return found


def _scores_of_other_draws(model: Model) -> list[SplitDraws]:
    """Score functions, `(signal).detach() * log q(h)`, whose signal knows one draw of a posterior and whose score another. A signal that
    decodes several draws, as a baseline of the others does, knows the score's own as well."""
    gradients, flow = gradients_of(model), model.flow
    decoder = gradients.names(flow.ancestors(*reconstruction_ends(model)))
    found: dict[fx.Node, list[tuple[frozenset[fx.Node], frozenset[fx.Node]]]] = {}
    for signal, score in _products(model):
        val = signal.meta.get("val")
        if signal in gradients.of_loss or not isinstance(val, torch.Tensor) or not val.dim():
            continue
        behind = flow.ancestors(score)
        own = decoder - gradients.names(behind)
        decoded = [n for n in flow.ancestors(signal) if ops.uses_parameter(n) and gradients.names(set(n.all_input_nodes)) & own]
        if decoded and flow.random & behind:
            found.setdefault(score, []).append((flow.random & flow.ancestors(*decoded), flow.random & behind))
    split = []
    for draws in found.values():
        if any(mine & other for mine, other in draws):
            continue
        usual, odd = flow.sorted(draws[0][0]), flow.sorted(draws[0][1])
        made_by = {frozenset(gradients.names(flow.ancestors(n))) for n in odd}
        same = [n for n in usual if frozenset(gradients.names(flow.ancestors(n))) in made_by - {frozenset()}]
        if same and len(made_by) == 1:
            split.append(SplitDraws(span(odd[0]), same[0], odd[0], of_score=True))
    return split[:1]


def _products(model: Model) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Both orders of each product that moves with the loss, where the second factor does; not of what a baseline takes off."""
    moved = gradients_of(model).of_loss
    for node in model.flow.sorted(moved):
        factors = ops.value_inputs(node) if ops.op(node) in ops.MUL and not is_baseline(node) else []
        if len(factors) == 2:
            yield from ((a, b) for a, b in (factors, factors[::-1]) if b in moved)
