"""Several posteriors in one model: one that no term holds, and one that is held to its own encoder in place of its prior.

In a ladder the posterior of a level is made of the encoder's Gaussian and of that which the draw above gives, and the KL is taken to the
latter, which is the prior p(z_l | z_l+1) that samples are made with (Sonderby et al. 2016, section 2.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import fx

from vaelint.anatomy.loss.terms import Leaf
from vaelint.anatomy.posterior.sites import Site, frontier
from vaelint.record import ops
from vaelint.record.walk import forward

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_HOLDS = ("prior", "discrepancy", "mixed", "vq", "other")


@dataclass(frozen=True)
class HeldToEncoder:
    """A KL between a merged posterior and the half of it that the encoder gives."""

    site: Site
    kl: Leaf
    encoder: tuple[fx.Node, ...]
    prior: tuple[fx.Node, ...]


def held_to_encoder(model: Model) -> list[HeldToEncoder]:
    """One for each place: posteriors made of data alone and of a draw above, whose KL sees the first half and no KL the second."""
    kl_leaves = [leaf for t in model.terms if t.role == "kl" for leaf in t.leaves]
    in_kl = {f for leaf in kl_leaves for f in leaf.frontier}
    found: dict[object, HeldToEncoder] = {}
    for site in model.sites:
        made_of = _made_of(model, site) if site.kind == "gaussian" and site.mu is not None and site.scale is not None else []
        above, own = [n for n in made_of if n in model.flow.noisy], [n for n in made_of if n not in model.flow.noisy]
        if not above or not own or any(n in in_kl for n in above):
            continue
        for leaf in kl_leaves:
            other = [f for f in leaf.frontier if f not in site.heads]
            if any(h in leaf.frontier for h in site.heads) and other and all(f in own for f in other):
                found.setdefault(model.where(leaf.node) or leaf.node, HeldToEncoder(site, leaf, tuple(other), tuple(above)))
    return list(found.values())


def unheld_sites(model: Model) -> list[Site]:
    """Posteriors with a learned scale whose draw is decoded and that no term holds, where other posteriors have their KL."""
    kls = [leaf for t in model.terms if t.role == "kl" and t.detached is None for leaf in t.leaves]
    others = [leaf for t in model.terms if t.role in _HOLDS for leaf in t.leaves]
    in_kl = {f for leaf in (*kls, *others) for f in leaf.frontier}
    made = {f for s in model.sites for f in (*s.heads, *_made_of(model, s))}
    apart = [leaf for leaf in others if not leaf.frontier or not set(leaf.frontier) <= made]  # not the part of a KL that stands alone
    by_others = model.flow.ancestors(*(leaf.node for leaf in apart)) if apart else set()
    recons = [leaf for t in model.terms_of("reconstruction") for leaf in t.leaves]
    in_recon = {f for leaf in recons for f in leaf.frontier}
    if not kls or not recons:
        return []
    cut = {f for t in model.terms if t.role == "kl" and t.detached is not None for leaf in t.leaves for f in leaf.frontier}  # VAE413 tells
    held = [s for s in model.sites if s.z in in_kl or any(n in in_kl for n in (*s.heads, *_made_of(model, s)))]
    return [
        s
        for s in model.sites
        if held
        and s not in held
        and not cut.intersection(s.heads)
        and s.kind == "gaussian"
        and s.scale_heads
        and s.z not in by_others
        and not any(n in in_recon for n in (s.z, *s.heads))
        and not any(h in by_others for h in s.heads)
        and any(ops.uses_parameter(u) for n in _carried(model, s.z) for u in model.flow.users.get(n, ()))
    ]


def _made_of(model: Model, site: Site) -> list[fx.Node]:
    """The raw values behind mean and scale, through sums and products of several of them."""
    ends = [n for n in (site.mu, site.scale) if n is not None]
    return [n for n in frontier(ends, model.flow, through=ops.POINTWISE | ops.SELECT) if n in model.flow.learned]


def _carried(model: Model, z: fx.Node) -> set[fx.Node]:
    """z itself and its changes of shape."""
    through = ops.SHAPE | ops.CAST | ops.JOIN
    return {z} | {n for n in forward(z, model.flow.users, through) if ops.op(n) in through}
