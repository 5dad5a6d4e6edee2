"""Normalising flows: which addends of the loss are the log-determinant, what they weigh, and where the prior is read.

With z_K = f(z_0) and z_0 ~ q_0, the KL part of the bound is E[log q_0(z_0) - log|det df/dz_0| - log p(z_K)] (Rezende and Mohamed 2015,
equation 15). The determinant is known by its value: it is computed from the recorded map itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.kl.kl_at_end import bent_values, multiple, prior_weight
from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.anatomy.posterior.sites import Site
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError, gradients

if TYPE_CHECKING:
    from vaelint.anatomy.loss.facts import KlFact
    from vaelint.anatomy.model import Model

_WIDEST = 64
"""Latents up to which the Jacobian is worked out."""


@dataclass(frozen=True)
class FlowBound:
    """The divergence of a posterior whose draw z_0 is bent to z_K, and the log-determinant of that map in the loss."""

    fact: KlFact
    site: Site
    bent: fx.Node  # z_K
    determinant: fx.Node  # where the addends of the log-determinant join the rest of the loss
    weight: float  # of minus the log-determinant of one sample
    kl_weight: float  # of the KL of one sample, of log q_0(z_0), or of -log p(z_K) where that of neither is known
    prior_at_end: bool  # whether an addend reads z_K and is no reconstruction
    leaves: tuple[Leaf, ...]  # the addends of the log-determinant; none where it is missing
    prior: fx.Node | None = None  # what reads the prior at z_0


def flow_bounds(model: Model) -> list[FlowBound]:
    """One for each posterior that a flow bends, with a KL in closed form or estimated with the draw."""
    found = []
    for fact in model.kls:
        site = fact.site
        if site is None or len(shape(site.z)) != 2 or shape(site.z)[-1] > _WIDEST or fact.term.detached is not None:
            continue
        whole = fact.probe.verdict in ("exact", "prior", "monte_carlo") and fact.scaling is not None
        for bent in bent_values(model, site):
            try:
                bound = _drawn(model, fact, site, bent) if fact.probe.monte_carlo or not whole else None
                bound = bound or (_at_the_base(model, fact, site, bent) if whole else None)
            except ReplayError:
                continue
            if bound is not None:
                found.append(bound)
                break
    return found


def _at_the_base(model: Model, fact: KlFact, site: Site, bent: fx.Node) -> FlowBound | None:
    """A KL of z_0, in closed form or of its draw, and addends that are the log-determinant."""
    leaves = _of_the_map(model, site, bent)
    weight = _weight(model, site, bent, leaves) if leaves else None
    if weight is None or fact.scaling is None:
        return None
    rest = [leaf for t in model.terms if t.role != "reconstruction" for leaf in t.leaves if leaf not in leaves]
    read = any(bent in model.flow.ancestors(leaf.node) for leaf in rest)
    return FlowBound(fact, site, bent, _join(model, leaves), weight, fact.scaling.value, read, tuple(leaves), _prior_of(model, fact, site))


def _prior_of(model: Model, fact: KlFact, site: Site) -> fx.Node | None:
    """Where the draw's own density under the prior is: the addend that reads the draw and none of its parameters; else the whole KL."""
    made = {leaf.node: model.flow.ancestors(leaf.node, stop={site.z}) for leaf in fact.term.leaves}
    bare = [node for node, behind in made.items() if site.z in behind and not behind & set(site.heads)]
    return bare[0] if len(bare) == 1 else fact.term.core


def _drawn(model: Model, fact: KlFact, site: Site, bent: fx.Node) -> FlowBound | None:
    """Addends that are a standard normal density of z_K, and those of the rest that are the log-determinant, if any."""
    at_end = [leaf for leaf in _divergence(model) if bent in model.flow.ancestors(leaf.node)]
    between = _of_the_map(model, site, bent)
    kl = prior_weight(model, bent, at_end) if at_end else None
    if kl is None or kl <= 0:
        return None
    if fact.probe.verdict == "drawn" and fact.scaling is not None:
        kl = fact.scaling.value  # log q_K is one density: it has its weight whole, and log p may have another
    if not between:
        told = [_log_determinant(model, site, bent, seed)[1] for seed in range(2)]
        varies = all(t is not None and bool(t.isfinite()) for t in told) and abs(float(told[0] - told[1])) > 1e-6  # type: ignore[operator]
        return FlowBound(fact, site, bent, at_end[0].node, 0.0, kl, True, ()) if varies else None
    weight = _weight(model, site, bent, between)
    return FlowBound(fact, site, bent, _join(model, between), weight, kl, True, tuple(between)) if weight is not None else None


def _divergence(model: Model) -> list[Leaf]:
    return [leaf for t in model.terms if t.role in ("kl", "prior", "other") and t.detached is None for leaf in t.leaves]


def _of_the_map(model: Model, site: Site, bent: fx.Node) -> list[Leaf]:
    """Addends that see z_0 through parameters, and z_K not at all: what a log-determinant is made of."""
    own = {site.z, *site.heads, *site.noise}
    found = []
    for leaf in _divergence(model):
        made_of = model.flow.ancestors(leaf.node)
        if bent in made_of or site.z not in made_of:
            continue
        if any(n.op == "get_attr" and n.meta.get("parameter") for n in model.flow.ancestors(leaf.node, stop=own)):
            found.append(leaf)
    return found


def _weight(model: Model, site: Site, bent: fx.Node, leaves: list[Leaf]) -> float | None:
    """w where the addends are -w log|det dz_K/dz_0|, summed over the batch, up to a constant; None where they are not."""
    sizes, loss = dict(model.symbols), model.record.loss
    assert loss is not None
    quiet = silence_others(Term("other", leaves), model.replay, sizes)
    values, determinants = [], []
    for seed in range(3):
        z, told = _log_determinant(model, site, bent, seed)
        if told is None:
            return None
        determinants.append(told)
        values.append(model.replay([loss], {**quiet, site.z: z}, sizes)[loss].sum().detach())
    told = torch.stack(determinants)
    if not bool(told.isfinite().all()) or float(told.max() - told.min()) < 1e-9:
        return None
    return multiple(torch.stack(values), -told)


def _log_determinant(model: Model, site: Site, bent: fx.Node, seed: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A random z_0, and log|det dz_K/dz_0| there, summed over the batch; None where z_K does not depend on it."""
    sizes = dict(model.symbols)
    generator = torch.Generator().manual_seed(60 + seed)
    z = torch.randn(model.replay.shape_of(site.z, sizes), dtype=torch.float64, generator=generator).requires_grad_()
    end = model.replay([bent], {site.z: z.clone()}, sizes)[bent]
    rows = [gradients(end[:, d], [z], retain=True)[0] for d in range(z.shape[1])]
    known = [r for r in rows if r is not None]
    told = torch.linalg.slogdet(torch.stack(known, 1))[1].sum().detach() if len(known) == len(rows) else None
    return z.detach(), told


def _join(model: Model, leaves: list[Leaf]) -> fx.Node:
    """The innermost sum of the addends with something else; of turns of a loop that are added one by one, the first that meets it."""
    own = {n for leaf in leaves for n in (leaf.node, *leaf.chain)}
    mixed = {n for n in own if ops.op(n) in ops.ADD and any(o not in own and o in model.flow.learned for o in ops.value_inputs(n))}
    met = [next((n for n in reversed(leaf.chain) if n in mixed), None) for leaf in leaves]
    return min((n for n in met if n is not None), key=model.flow.order.__getitem__, default=leaves[0].node)
