"""Normalising flows behind a closed-form KL: which addends are the log-determinant, what they weigh, and where the prior is read.

With z_K = f(z_0) and z_0 ~ q_0, the KL part of the bound is E[log q_0(z_0) - log|det df/dz_0| - log p(z_K)] (Rezende and Mohamed 2015,
equation 15). The determinant is known by its value: it is computed from the recorded map itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy import ops
from vaelint.anatomy.isolate import silence_others
from vaelint.anatomy.readings import fit
from vaelint.anatomy.replay import ReplayError, gradients
from vaelint.anatomy.sites import Site
from vaelint.anatomy.terms import Leaf, Term
from vaelint.graph import shape

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model
    from vaelint.anatomy.objective import KlFact

_WIDEST = 64
"""Latents up to which the Jacobian is worked out."""


@dataclass(frozen=True)
class FlowBound:
    """A closed-form KL of z_0 beside the log-determinant of the map from z_0 to z_K."""

    fact: KlFact
    site: Site
    bent: fx.Node  # z_K
    determinant: fx.Node  # where the addends of the log-determinant join the rest of the loss
    weight: float  # of minus the log-determinant of one sample
    kl_weight: float  # of the KL of one sample
    prior_at_end: bool  # whether an addend reads z_K and is no reconstruction
    leaves: tuple[Leaf, ...]  # the addends of the log-determinant


def flow_bounds(model: Model) -> list[FlowBound]:
    """One for each posterior with a closed-form KL that a flow bends."""
    found = []
    for fact in model.kls:
        site = fact.site
        if site is None or fact.probe.verdict not in ("exact", "prior") or fact.probe.monte_carlo or fact.scaling is None:
            continue
        leaves = [leaf for t in model.terms if t.role == "other" for leaf in t.leaves if site.z in model.flow.ancestors(leaf.node)]
        if not leaves or shape(site.z)[-1] > _WIDEST or len(shape(site.z)) != 2:
            continue
        for bent in _bent(model, site):
            try:
                weight = _weight(model, site, bent, leaves)
            except ReplayError:
                continue
            if weight is not None:
                rest = [leaf for t in model.terms if t.role != "reconstruction" for leaf in t.leaves if leaf not in leaves]
                read = any(bent in model.flow.ancestors(leaf.node) for leaf in rest)
                found.append(FlowBound(fact, site, bent, _join(model, leaves), weight, fact.scaling.value, read, tuple(leaves)))
                break
    return found


def _bent(model: Model, site: Site) -> list[fx.Node]:
    """Values of z's shape that all ways from z to the reconstruction pass, z itself left out, the last first."""
    ends = {r for fact in model.recons for r in fact.pair.raw}
    below = model.flow.descendants(site.z) & model.flow.ancestors(*ends) if ends else set()
    found = []
    for node in model.flow.sorted(below - {site.z} - ends):
        if shape(node) == shape(site.z) and not ends & model.flow.descendants(site.z, stop={node}):
            found.append(node)
    return found[::-1]


def _weight(model: Model, site: Site, bent: fx.Node, leaves: list[Leaf]) -> float | None:
    """w where the addends are -w log|det dz_K/dz_0|, summed over the batch, up to a constant; None where they are not."""
    sizes, loss = dict(model.symbols), model.record.loss
    assert loss is not None
    quiet = silence_others(Term("other", leaves), model.replay, sizes)
    values, determinants = [], []
    for seed in range(3):
        generator = torch.Generator().manual_seed(60 + seed)
        z = torch.randn(model.replay.shape_of(site.z, sizes), dtype=torch.float64, generator=generator).requires_grad_()
        end = model.replay([bent], {site.z: z.clone()}, sizes)[bent]
        rows = [gradients(end[:, d], [z], retain=True)[0] for d in range(z.shape[1])]
        if any(r is None for r in rows):
            return None
        determinants.append(torch.linalg.slogdet(torch.stack([r for r in rows if r is not None], 1))[1].sum())
        values.append(model.replay([loss], {**quiet, site.z: z.detach().clone()}, sizes)[loss].sum())
    told = torch.stack(determinants)
    if not bool(told.isfinite().all()) or float(told.max() - told.min()) < 1e-9:
        return None
    (w, _), residual = fit(torch.stack(values).detach(), [-told, torch.ones_like(told)])
    spread = float((torch.stack(values).max() - torch.stack(values).min()).detach())
    return w if spread > 0 and residual * max(float(v.detach().abs()) for v in values) < 1e-4 * spread else None


def _join(model: Model, leaves: list[Leaf]) -> fx.Node:
    """The innermost sum of the addends with something else."""
    own = {n for leaf in leaves for n in (leaf.node, *leaf.chain)}
    shared = [n for n in leaves[0].chain if all(n in leaf.chain for leaf in leaves)]
    mixed = [n for n in shared if any(o not in own and o in model.flow.learned for o in ops.value_inputs(n)) and ops.op(n) in ops.ADD]
    return mixed[-1] if mixed else leaves[0].node
