"""Priors that are mixtures, and KLs that are averaged over their components: sum_k w_k KL(q || p_k) is no KL to sum_k w_k p_k.

By Jensen's inequality it is larger, and as a function of the posterior it is the KL to the one density prod_k p_k^{w_k}: of Gaussians one
Gaussian in the middle of all, so that the mixture is none any more. Priors of several parts of the latent, each of which reads its own
part (a Gaussian process for each channel), are a product and no mixture: their KLs add up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import fx

from vaelint.anatomy.loss.terms import Leaf
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_SAME = 1e-9


@dataclass(frozen=True)
class Averaged:
    """A sum or mean over the components of a prior, what it reduces, along which axis, and the parameter that has them."""

    reducer: fx.Node
    source: fx.Node
    axis: int
    parameter: fx.Node
    posterior: fx.Node  # the draw or mean that all components see


def averaged_components(model: Model) -> list[Averaged]:
    """One for each place in a KL where components are averaged with weights that the sample has no part in."""
    found: dict[object, Averaged] = {}
    for term in model.terms:
        for leaf in term.leaves if term.role in ("kl", "prior") and term.detached is None else ():
            for reducer in leaf.chain:
                if ops.op(reducer) in ops.LINEAR_REDUCE and model.where(reducer) not in found:
                    try:
                        averaged = _averaged(model, leaf, reducer)
                    except ReplayError:
                        continue
                    if averaged is not None:
                        found[model.where(reducer)] = averaged
    return list(found.values())


def _averaged(model: Model, leaf: Leaf, reducer: fx.Node) -> Averaged | None:
    source = reducer.args[0] if reducer.args else None
    if not isinstance(source, fx.Node):
        return None
    for axis in ops.dims_of(reducer) or ():
        count = shape(source)[axis]
        if count < 2 or "B" in model.dims(source)[axis]:
            continue
        own = [p for p in _parameters(model, source) if p in model.flow.ancestors(leaf.node)]  # not those of what is added to the KL
        parameters = [p for p in own if count in shape(p)[:1]] + [p for p in own if shape(p)[:2] == (1, count)]
        posterior = _posterior_of(model, leaf, source, axis) if parameters else None
        for parameter in parameters if posterior is not None else ():
            if (
                posterior is not None
                and _has_components(model, leaf, source, axis, parameter)
                and _all_see(model, leaf, source, axis, posterior)
            ):
                return Averaged(reducer, source, axis, parameter, posterior)
    return None


def _parameters(model: Model, source: fx.Node) -> list[fx.Node]:
    """Parameters, and buffers of real numbers, that a value is made of in another way than through the posterior: an encoder's rows are
    the latent dimensions, and no components."""
    posterior = {n for s in model.sites for n in (s.z, *s.heads)}
    above = model.flow.sorted(model.flow.ancestors(source, stop=posterior))
    return [n for n in above if n.op == "get_attr" and n not in model.flow.data and len(shape(n)) > 1 and _is_real(n)]


def _is_real(node: fx.Node) -> bool:
    val = node.meta.get("val")
    return isinstance(val, torch.Tensor) and val.is_floating_point()


def _posterior(model: Model, leaf: Leaf, seed: int) -> dict[fx.Node, torch.Tensor]:
    """Random values of the draws and heads that an addend is made of."""
    known = {s.z for s in model.sites} | {h for s in model.sites for h in s.heads}
    nodes = [n for n in leaf.frontier if n in known]
    generator = torch.Generator().manual_seed(seed)
    sizes = dict(model.symbols)
    return {n: torch.randn(model.replay.shape_of(n, sizes), dtype=torch.float64, generator=generator) for n in nodes}


def _posterior_of(model: Model, leaf: Leaf, source: fx.Node, axis: int) -> fx.Node | None:
    """The draw or mean in which all entries along the axis are parabolas, as log-densities are and layers are not, of curvatures that do
    not differ between samples: weights that are responsibilities do."""
    sizes = dict(model.symbols)
    at = _posterior(model, leaf, 7)
    means = {s.z for s in model.sites} | {h for s in model.sites for h in s.mu_heads}
    for node in (n for n in at if n in means):
        rows = []
        for step in range(4):
            moved = at[node].clone()
            moved[..., 0] += float(step)
            rows.append(model.replay([source], {**at, node: moved}, sizes)[source].detach())
        if any(r.shape != rows[0].shape for r in rows):
            continue
        first, second = rows[1] - rows[0], rows[2] - 2 * rows[1] + rows[0]
        third = rows[3] - 3 * rows[2] + 3 * rows[1] - rows[0]
        scale = float(first.abs().max())
        if scale and float(third.abs().max()) < 1e-6 * scale and curvatures_agree(second, axis, 1e-6):
            return node
    return None


def curvatures_agree(second: Float[torch.Tensor, "*shape"], axis: int, tolerance: float) -> bool:
    """Whether at each index along an axis all second differences that are not 0 are one number, and there are some."""
    if second.dim() < 2:  # one row of components for all samples: nothing to hold it against
        return False
    for row in second.movedim(axis, 0).flatten(1):
        used = row[row.abs() > 1e-3 * second.abs().max()]
        if not used.numel() or float(used.max() - used.min()) > tolerance * float(used.abs().max()):
            return False
    return True


def _has_components(model: Model, leaf: Leaf, source: fx.Node, axis: int, parameter: fx.Node) -> bool:
    """Whether each row of a parameter moves the entry of its own component, and no other: weights that see the sample see them all."""
    sizes, at = dict(model.symbols), _posterior(model, leaf, 8)
    value = model.leaf_value(parameter)
    if value is None or parameter in at:
        return False
    value = value.detach().double()
    base = model.replay([source], {**at, parameter: value}, sizes)[source].detach()
    for row in (0, value.shape[0 if value.shape[0] > 1 else 1] - 1):
        moved = value.clone()
        (moved if value.shape[0] > 1 else moved[0])[row] += 0.37
        change = _along(model.replay([source], {**at, parameter: moved}, sizes)[source].detach() - base, axis)
        others = torch.cat([change[:row], change[row + 1 :]])
        if not float(change[row]) > 1e-6 or float(others.max()) > _SAME * max(1.0, float(base.abs().max())):
            return False
    return True


def _all_see(model: Model, leaf: Leaf, source: fx.Node, axis: int, posterior: fx.Node) -> bool:
    """Whether one number of the posterior, the first that moves any entry along the axis, moves them all: else each has its own part of the
    latent, and none is a component."""
    sizes, at = dict(model.symbols), _posterior(model, leaf, 9)
    base = model.replay([source], at, sizes)[source].detach()
    for place in range(at[posterior][..., 0].numel()):
        moved = at[posterior].clone()
        moved.view(-1, moved.shape[-1])[place, 0] += 1.0
        change = _along(model.replay([source], {**at, posterior: moved}, sizes)[source].detach() - base, axis)
        sees = change > _SAME * max(1.0, float(base.abs().max()))
        if bool(sees.any()):
            return bool(sees.all())
    return False


def _along(value: torch.Tensor, axis: int) -> torch.Tensor:
    """The largest modulus at each index along an axis."""
    return value.movedim(axis, 0).flatten(1).abs().amax(1) if value.dim() > 1 else value.abs()
