"""The terms of a bound that sums over the values of a latent, as the sample sites of its probabilistic program tell them.

Inside of such a sum a density is weighed by the probability of each value. Its weight is that of all values together, whose
probabilities add up to 1: the gradient of the loss in the density, added up over the values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.loss.terms import Role
from vaelint.late import dataclass
from vaelint.record.sampled import Sampled
from vaelint.replay.per_model import per_model
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


@dataclass(frozen=True)
class SampledTerm:
    """The likelihood of an observed site, or what guide and model have of a latent."""

    role: Role
    kernel: str
    node: fx.Node  # its density
    weight: float | None
    plates: tuple[str, ...]
    is_point: bool = False  # a latent whose guide is a point: the prior at it is no KL


@per_model
def sampled_terms(model: Model) -> list[SampledTerm]:
    """One term a site, likelihoods first; empty where no latent of the program is summed over."""
    densities = {s: n for n in model.record.graph.nodes if (s := n.meta.get("sampled")) is not None}  # the last of each is the whole
    summed = list(dict.fromkeys(s.name for s in densities if s.summed))
    if not summed:
        return []
    guide = {s.name: s for s in densities if s.of_guide}
    found = [
        _term(model, site, node, guide.get(site.name), [n for n in summed if n != site.name])
        for site, node in densities.items()
        if not site.of_guide and (site.observed or site.name in guide)
    ]
    return sorted(found, key=lambda t: t.role != "reconstruction")


def balance_of(terms: list[SampledTerm]) -> float | None:
    """What the latents of a row weigh against the likelihood of a row; None where that is not one number.

    Latents that all rows share stand under none of the plates of the data: they count once, whatever a subsample of rows stands for.
    """
    data = [t for t in terms if t.role == "reconstruction"]
    rows = {plate for t in data for plate in t.plates}
    latent = [t for t in terms if t.role != "reconstruction" and (rows.intersection(t.plates) or not rows)]
    weights = [{round(t.weight, 6) if t.weight else None for t in some} for some in (latent, data)]
    if any(len(w) != 1 or None in w for w in weights):
        return None
    (kl,), (likelihood,) = weights
    return float(kl / likelihood) if kl and likelihood else None


def _term(model: Model, site: Sampled, node: fx.Node, other: Sampled | None, summed: list[str]) -> SampledTerm:
    value = node.meta.get("val")
    many = isinstance(value, torch.Tensor) and value.numel() > site.rows
    over = f", summed over {' and '.join(repr(n) for n in summed)}" if many and summed else ""
    weight = _weight(model, node, site.rows)
    if site.observed or other is None:
        return SampledTerm("reconstruction", f"{site.law} likelihood of '{site.name}'{over}", node, weight, site.plates)
    if other.law == "Delta":
        return SampledTerm("prior", f"log prior of '{site.name}' at a point ({site.law}){over}", node, weight, site.plates, True)
    how = "exact KL" if site.summed else "Monte Carlo KL"
    return SampledTerm(
        "kl", f"{how} of '{site.name}' ({' to '.join(dict.fromkeys((other.law, site.law)))}){over}", node, weight, site.plates
    )


def _weight(model: Model, node: fx.Node, rows: int) -> float | None:
    """What one row of a log-density weighs in the loss; None where the loss does not run at its values."""
    loss = model.record.loss
    assert loss is not None
    try:
        here = model.replay([node], {}, model.symbols)[node].detach().requires_grad_()
        out = model.replay([loss], {node: here}, model.symbols)[loss]
    except ReplayError:
        return None
    if not out.requires_grad:
        return None
    (slope,) = torch.autograd.grad(out.sum(), [here], allow_unused=True)
    return abs(float(slope.sum())) / max(rows, 1) if slope is not None else None
