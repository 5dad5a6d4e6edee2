"""How much a draw tells about the raw values that it is made of: its Fisher information, from the sampler itself, whatever the family.

The score at a fixed value v is the slope of log q(g(h, e); h) at fixed noise, less what comes of v moving with h.

Source: Amari & Nagaoka 2000, Methods of information geometry, section 2.2; Figurnov et al. 2018, Implicit Reparameterization
Gradients, eq. 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import fx

from vaelint.laws.densities.sampler import Drawn, Sampler
from vaelint.replay.replay import ReplayError


def information(
    sampler: Sampler, heads: Mapping[fx.Node, torch.Tensor], held: Mapping[fx.Node, torch.Tensor], way: Sequence[torch.Tensor]
) -> float:
    """Of the first row, along a direction in its raw values. Raises ReplayError where the draw is not made element by element."""
    leaves = {h: v.detach().clone().requires_grad_() for h, v in heads.items()}
    drawn, given, noise = sampler.run_with_leaves(leaves, held)
    points = len(drawn.v)
    total = 0.0
    for element in range(drawn.v.shape[2]):
        along = _slope(drawn, drawn.log_q, element, given, way, points)
        moved = _slope(drawn, drawn.v, element, given, way, points)
        if not (bool(along.any()) or bool(moved.any())):
            continue
        score = along - _over_noise(drawn, element, noise) * moved
        mass = drawn.mass.detach().expand_as(drawn.v)[:, 0, element]
        total += float((mass * score.square()).sum())
    return total


def _slope(
    drawn: Drawn, values: torch.Tensor, element: int, given: Sequence[torch.Tensor], way: Sequence[torch.Tensor], points: int
) -> torch.Tensor:
    """How values of one element move along the way, for each point of the first row."""
    out = values.expand_as(drawn.v)[:, 0, element]
    if not out.requires_grad:
        return torch.zeros(points, dtype=torch.float64)
    found = torch.autograd.grad(out.sum(), list(given), retain_graph=True, allow_unused=True)
    slopes = [
        (g.reshape(points, -1, *w.shape[1:])[:, 0] * w[0]).flatten(1).sum(1) for g, w in zip(found, way, strict=True) if g is not None
    ]
    return torch.stack(slopes).sum(0) if slopes else torch.zeros(points, dtype=torch.float64)


def _over_noise(drawn: Drawn, element: int, noise: torch.Tensor) -> torch.Tensor:
    """d log q / dv at fixed raw values."""
    v, log_q = drawn.v[:, 0, element], drawn.log_q.expand_as(drawn.v)[:, 0, element]
    (rate,) = torch.autograd.grad(v.sum(), [noise], retain_graph=True, allow_unused=True)
    (climb,) = torch.autograd.grad(log_q.sum(), [noise], retain_graph=True, allow_unused=True) if log_q.requires_grad else (None,)
    if rate is None or climb is None:
        return torch.zeros_like(v)
    per = [t.reshape(*drawn.v.shape[:2], -1)[:, 0] for t in (rate, climb)]
    if per[0].shape[1] != drawn.v.shape[2]:
        raise ReplayError("the draw is not made element by element")
    return (per[1] / per[0])[:, element].detach()
