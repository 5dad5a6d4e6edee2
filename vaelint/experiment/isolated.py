"""One term of the loss as a function of the values it is made of, on the tensors of the real run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import fx

from vaelint.anatomy.loss.terms import Term
from vaelint.anatomy.posterior.sites import Site
from vaelint.experiment.trial import Trial
from vaelint.experiment.verdict import CannotMeasureError, NoPowerError
from vaelint.record import ops

Values = Mapping[fx.Node, torch.Tensor]


def term_value(trial: Trial, term: Term, changes: Mapping[fx.Node, Any]) -> torch.Tensor:
    """The loss with `term` as its only addend and some nodes below the term changed; a scalar, differentiable in the changes."""
    path = {n for leaf in term.leaves for n in (*leaf.chain, leaf.node)}
    factors = [n for link in path if ops.op(link) in ops.MUL for n in ops.value_inputs(link)]  # a mask may be made of the term itself
    region = path | trial.model.flow.ancestors(*(leaf.node for leaf in term.leaves), *factors)
    loss = trial.loss_node
    got = trial.recompute([loss], {**_silenced(trial, term, path), **changes}, inside=region)[loss]
    if not isinstance(got, torch.Tensor):
        raise CannotMeasureError("the loss is not a tensor")
    return got.sum()


def _silenced(trial: Trial, term: Term, path: set[fx.Node]) -> dict[fx.Node, Any]:
    """Zeros for all that is added to the term on its way up."""
    leaves = {leaf.node for leaf in term.leaves}
    zeros: dict[fx.Node, Any] = {}
    for node in path - leaves:
        if ops.op(node) in ops.ADD | ops.JOIN:
            for operand in ops.value_inputs(node):
                if operand not in path:
                    val = trial.node(operand).meta.get("val")
                    zeros[operand] = torch.zeros_like(val, requires_grad=False) if isinstance(val, torch.Tensor) else 0.0
    return zeros


def moments(trial: Trial, site: Site, heads: Values) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and scale of a site's draw, differentiable in the heads: z at noise 0, and what noise 1 adds."""
    if site.kind == "drawn":
        if site.mu is None or site.scale is None:
            raise CannotMeasureError("the draw has no mean or scale of its own")
        got = trial.recompute([site.mu, site.scale], heads)
        return got[site.mu], got[site.scale]
    if not site.noise:
        raise CannotMeasureError("the noise of the draw was not found")
    levels = []
    for level in (0.0, 1.0):
        noise = {n: torch.full_like(trial.node(n).meta["val"], level) for n in site.noise}
        levels.append(trial.recompute([site.z], {**heads, **noise})[site.z])
    return levels[0], levels[1] - levels[0]


def closed_form(
    m: Float[torch.Tensor, "*#shape"], s: Float[torch.Tensor, "*#shape"], prior: tuple[float, float] = (0.0, 1.0)
) -> Float[torch.Tensor, "*shape"]:
    """KL(N(m, s^2) || N(prior)), element by element (Kingma & Welling 2014, appendix B)."""
    variance = prior[1] ** 2
    return (((m - prior[0]) ** 2 + s**2) / variance - 1 - (s**2 / variance).clamp(min=1e-30).log()) / 2


def laplace_form(
    m: Float[torch.Tensor, "*#shape"], s: Float[torch.Tensor, "*#shape"], prior: tuple[float, float] = (0.0, 1.0)
) -> Float[torch.Tensor, "*shape"]:
    """KL(Laplace(m, s) || Laplace(prior)), element by element (Gil et al. 2013, table 3)."""
    far, ratio = (m - prior[0]).abs(), s.abs().clamp(min=1e-30) / prior[1]
    return far / prior[1] + ratio * (-far / s.abs().clamp(min=1e-30)).exp() - 1 - ratio.log()


def leaves_like(trial: Trial, nodes: tuple[fx.Node, ...], spread: float | None = None, seed: int = 0) -> dict[fx.Node, torch.Tensor]:
    """Values for some nodes that gradients can be asked for: those of the run, or normal numbers of a given spread."""
    generator = torch.Generator().manual_seed(seed)
    made: dict[fx.Node, torch.Tensor] = {}
    for node in nodes:
        val = (trial.value(node) if spread is None else trial.like(node)).detach()
        if spread is not None:
            val = (spread * torch.randn(val.shape, generator=generator, dtype=torch.float64)).to(val.dtype).to(val.device)
        made[node] = val.clone().requires_grad_()
    return made


def slope(of: torch.Tensor, to: Values) -> dict[fx.Node, torch.Tensor]:
    """d of / d to, zeros where nothing arrives."""
    if not of.requires_grad:
        return {n: torch.zeros_like(v) for n, v in to.items()}
    got = torch.autograd.grad(of, list(to.values()), allow_unused=True)
    return {n: torch.zeros_like(v) if g is None else g for (n, v), g in zip(to.items(), got, strict=True)}


def share(got: Float[torch.Tensor, "*shape"], expected: Float[torch.Tensor, "*shape"]) -> tuple[float, float]:
    """(w, residual): the w for which `got` is nearest to `w * expected`, where `got` is not zero; the residual relative to `got`.

    A probability that is squashed to 0 or 1 has no slope: what is not finite is left out, where it is the lesser part.

    Raises:
        NoPowerError: there is no gradient, or most of it is not finite.
    """
    finite = got.isfinite() & expected.isfinite()
    used = (got != 0) & finite
    g, e = got[used].double(), expected[used].double()
    if not g.numel() or float(e.square().sum()) == 0 or 2 * int((~finite).sum()) > got.numel():
        raise NoPowerError("no gradient to measure at these values")
    w = float((g * e).sum() / e.square().sum())
    return w, float((g - w * e).norm() / g.norm())
