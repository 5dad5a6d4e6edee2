"""Several posteriors in one model: one that no term holds, and one that is held to its own encoder in place of its prior.

In a ladder the posterior of a level is made of the encoder's Gaussian and of that which the draw above gives, and the KL is taken to the
latter, which is the prior p(z_l | z_l+1) that samples are made with (Sonderby et al. 2016, section 2.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.anatomy.loss.terms import Leaf
from vaelint.anatomy.posterior.sites import Site, frontier
from vaelint.late import dataclass
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


@dataclass(frozen=True)
class _Held:
    """What the terms of a loss hold: the values at the front of their addends."""

    by_kl: set[fx.Node]  # or by what stands in a KL's place
    by_cut: set[fx.Node]  # of KLs without a gradient, which VAE413 tells
    by_recon: set[fx.Node]
    behind_others: set[fx.Node]  # whatever leads to a term that is no KL's part


def _held(model: Model) -> _Held | None:
    """None where there is no KL or no reconstruction to hold a posterior beside."""
    kls = [leaf for t in model.terms if t.role == "kl" and t.detached is None for leaf in t.leaves]
    recons = [leaf for t in model.terms_of("reconstruction") for leaf in t.leaves]
    if not kls or not recons:
        return None
    cut = [leaf for t in model.terms if t.role == "kl" and t.detached is not None for leaf in t.leaves]
    others = [leaf for t in model.terms if t.role in _HOLDS for leaf in t.leaves]
    made = {f for s in model.sites for f in (*s.heads, *_made_of(model, s))}
    apart = [leaf for leaf in others if not leaf.frontier or not set(leaf.frontier) <= made]  # not the part of a KL that stands alone
    behind_others = model.flow.ancestors(*(leaf.node for leaf in apart)) if apart else set()
    return _Held(_fronts([*kls, *others]), _fronts(cut), _fronts(recons), behind_others)


def _fronts(leaves: list[Leaf]) -> set[fx.Node]:
    return {f for leaf in leaves for f in leaf.frontier}


def unheld_sites(model: Model) -> list[Site]:
    """Posteriors with a learned scale whose draw is decoded and that no term holds, where other posteriors have their KL."""
    held = _held(model)
    if held is None:
        return []
    in_kl = [s for s in model.sites if held.by_kl & {s.z, *s.heads, *_made_of(model, s)}]
    left = [s for s in model.sites if in_kl and s not in in_kl and s.kind == "gaussian" and s.scale_heads]
    elsewhere = held.by_recon | held.behind_others
    left = [s for s in left if s.z in _by_value(model) and s.z in gradients_of(model).of_loss]  # else it asks for no smaller spread
    open_ones = [s for s in left if not held.by_cut & set(s.heads) and not elsewhere & {s.z, *s.heads} and _is_read(model, s)]
    return [s for s in open_ones if not _of_the_prior(model, s, in_kl)]


def _by_value(model: Model) -> set[fx.Node]:
    """What the loss is made of otherwise than by a gradient that the step took: an inner loop's draws have that loop's own KL."""
    loss = model.record.loss
    taken = frozenset(n for n in model.record.nodes if n.op == "call_function" and ops.op(n) == "grad")
    return model.flow.ancestors(loss, stop=taken) - taken if loss is not None else set()


def _of_the_prior(model: Model, site: Site, held: list[Site]) -> bool:
    """Whether a draw is one of the model's own, p(z2 | z1): it sees the data by other draws alone, and no prior of those sees it.

    Such a draw has no KL: its posterior is its prior. In a ladder from below, q(z2 | z1) is one that p(z1 | z2) reads; of draws of many
    steps the prior of a later one reads it, and which one that is cannot be told where their KL is taken of all steps at once.
    """
    flow = model.flow
    behind = flow.ancestors(*site.heads, stop={s.z for s in held})
    read = [s for s in held if s.z in behind]
    recons = [leaf for t in model.terms_of("reconstruction") for leaf in t.leaves]
    targets = [n for leaf in recons for n in leaf.frontier if n in flow.data and n not in flow.learned]
    shown = {n for n in (flow.ancestors(*targets) if targets else set()) if n.op == "placeholder"}
    if not read or not shown or behind & shown:
        return False
    for leaf in (leaf for t in model.terms if t.role == "kl" for leaf in t.leaves):
        judged = [s for s in held if set(leaf.frontier) & {*s.heads, *_made_of(model, s)}]
        priors = [n for n in leaf.frontier if all(n not in s.heads for s in judged)]
        if len(judged) == 1 and judged[0] in read and priors and site.z in flow.ancestors(*priors):
            return False
    return True


def _is_read(model: Model, site: Site) -> bool:
    """Whether a layer reads the draw, in whatever shape."""
    return any(ops.uses_parameter(u) for n in _carried(model, site.z) for u in model.flow.users.get(n, ()))


def _made_of(model: Model, site: Site) -> list[fx.Node]:
    """The raw values behind mean and scale, through sums and products of several of them."""
    ends = [n for n in (site.mu, site.scale) if n is not None]
    return [n for n in frontier(ends, model.flow, through=ops.POINTWISE | ops.SELECT) if n in model.flow.learned]


def _carried(model: Model, z: fx.Node) -> set[fx.Node]:
    """z itself and its changes of shape."""
    through = ops.SHAPE | ops.CAST | ops.JOIN
    return {z} | {n for n in forward(z, model.flow.users, through) if ops.op(n) in through}
