"""A KL whose draw z is bent on its way to the decoder, to z_K of a flow: where z_K is, and what the prior's part weighs there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.kl.readings import agree, fit
from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.terms import Leaf, Term
from vaelint.anatomy.posterior.sites import Site
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.loss.facts import KlFact
    from vaelint.anatomy.model import Model


def bent_values(model: Model, site: Site) -> list[fx.Node]:
    """Values of z's shape that all ways from z to the reconstruction pass, z itself left out, the last first."""
    ends = {r for fact in model.recons for r in fact.pair.raw}
    below = model.flow.descendants(site.z) & model.flow.ancestors(*ends) if ends else set()
    found = []
    for node in model.flow.sorted(below - {site.z} - ends):
        if shape(node) == shape(site.z) and not ends & model.flow.descendants(site.z, stop={node}):
            found.append(node)
    return found[::-1]


def prior_weight(model: Model, bent: fx.Node, leaves: list[Leaf]) -> float | None:
    """w where the addends are w |z_K|^2 / 2, summed over the batch, up to a constant; None where they are not."""
    sizes, loss = dict(model.symbols), model.record.loss
    assert loss is not None
    quiet = silence_others(Term("prior", leaves), model.replay, sizes)
    values, squares = [], []
    for seed in range(3):
        generator = torch.Generator().manual_seed(80 + seed)
        z = torch.randn(model.replay.shape_of(bent, sizes), dtype=torch.float64, generator=generator)
        squares.append(z.square().sum() / 2)
        values.append(model.replay([loss], {**quiet, bent: z}, sizes)[loss].sum().detach())
    return multiple(torch.stack(values), torch.stack(squares))


def is_weighed_apart(model: Model, fact: KlFact) -> bool:
    """Whether log q and log p, estimated with the draw, have two weights: an inverse temperature on the joint density gives them."""
    site, scaling = fact.site, fact.scaling
    if fact.probe.verdict != "drawn" or site is None or scaling is None:
        return fact.probe.apart
    for bent in bent_values(model, site):
        at_end = [leaf for leaf in fact.term.leaves if bent in model.flow.ancestors(leaf.node)]
        try:
            prior = prior_weight(model, bent, at_end) if at_end else None
        except ReplayError:
            continue
        if prior is not None:
            return not agree(prior, scaling.value)
    return False


def multiple(values: torch.Tensor, of: torch.Tensor) -> float | None:
    """w where `values` = w * `of` + a constant; None where they are not."""
    (w, _), residual = fit(values, [of, torch.ones_like(of)])
    spread = float(values.max() - values.min())
    return w if spread > 0 and residual * float(values.abs().max()) < 1e-4 * spread else None
