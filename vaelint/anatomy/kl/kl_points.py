"""Samples of a posterior's moments and of a KL term's gradients in them, over random values of the heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import fx

from vaelint.anatomy.kl.kl_slice import Slice
from vaelint.anatomy.posterior.sites import Site
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.replay import Replay, ReplayError, gradients


def values_of(heads: list[fx.Node], replay: Replay, sizes: Mapping[str, int], spread: float, seed: int) -> dict[fx.Node, torch.Tensor]:
    """Random values about `spread` from 0, of either sign; symmetric and positive definite where a Cholesky factor is taken of them."""
    generator = torch.Generator().manual_seed(seed)
    values = {
        h: spread
        * (0.25 + torch.rand(replay.shape_of(h, sizes), dtype=torch.float64, generator=generator))
        * _signs(replay.shape_of(h, sizes), generator)
        for h in heads
    }
    return {h: v @ v.mT / v.shape[-1] + torch.eye(v.shape[-1], dtype=v.dtype) if _is_factored(h, v) else v for h, v in values.items()}


def _is_factored(head: fx.Node, value: torch.Tensor) -> bool:
    """Whether a head is a square matrix of which a Cholesky factor is taken, with something added to it or not."""
    if value.dim() < 2 or value.shape[-1] != value.shape[-2]:
        return False
    after = [head, *(u for u in head.users if ops.op(u) in ops.ADD)]
    return any("cholesky" in ops.op(u) for n in after for u in n.users)


def random_points(slice_: Slice, sizes: Mapping[str, int], spread: float = 2.0) -> list[dict[fx.Node, torch.Tensor]]:
    """Three random values of all heads."""
    return [values_of(slice_.heads, slice_.replay, sizes, spread, 40 + seed) for seed in range(3)]


def _signs(size: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    return torch.where(torch.rand(size, generator=generator) < 0.5, -1.0, 1.0).double()


@dataclass
class Points:
    """Matching samples of m, s, dL/dm and dL/dlog s over all elements of one site."""

    m: torch.Tensor
    s: torch.Tensor
    gm: torch.Tensor
    gt: torch.Tensor
    hm: torch.Tensor
    hs: torch.Tensor
    ghs: torch.Tensor
    ghm: torch.Tensor
    used: torch.Tensor | None = None  # of one draw: which elements they are; the rest is cut off by a clamp of the moments


def points_at(slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float, fill: float = 0.3) -> Points | None:
    """Collects samples over several draws of the heads; None when the moments are not element-wise functions of one head each."""
    collected = [points_of(slice_, site, sizes, spread, fill, seed) for seed in range(3)]
    whole = [p for p in collected if p is not None]
    if len(whole) < len(collected):
        return None
    joined = Points(*(torch.cat([getattr(p, f) for p in whole]) for f in ("m", "s", "gm", "gt", "hm", "hs", "ghs", "ghm")))
    return joined if joined.m.numel() >= 6 else None


def points_of(
    slice_: Slice, site: Site, sizes: Mapping[str, int], spread: float, fill: float, seed: int, even: float = 0.0
) -> Points | None:
    """The samples of one draw."""
    hm = site.mu_heads[0]
    hs = site.scale_heads[0] if len(site.scale_heads) == 1 else None
    if hs is None or hs is hm or shape(hm) != shape(hs):
        return None
    values = values_of(slice_.heads, slice_.replay, sizes, spread, 10 + seed)
    grads = slice_.gradients(sizes, values, fill, seed=seed, even=even)
    leaves = {h: v.clone().requires_grad_() for h, v in values.items()}
    m, s = slice_.moments(site, sizes, {h: v.clone() for h, v in leaves.items()})
    if s is None or m.shape != leaves[hm].shape or s.shape != leaves[hs].shape:
        squeezed = match(m, leaves[hm]), None if s is None else match(s, leaves[hs])
        if squeezed[0] is None or squeezed[1] is None:
            return None
        m, s = squeezed[0], squeezed[1]
    if not m.requires_grad or not s.requires_grad:
        return None
    dm = gradients(m, [leaves[hm]], retain=True)[0]
    ds = gradients(s, [leaves[hs]])[0]
    if dm is None or ds is None:
        return None
    if dm.shape != ds.shape or dm.shape != m.shape:
        return None  # mean and scale are read from heads of other layouts: element by element there is nothing to match
    if not bool(dm.any()):
        raise ReplayError("no sample of this size is drawn from this posterior")
    ok = (dm.abs() > 1e-9) & (ds.abs() > 1e-9) & (s.abs() > 1e-6)
    columns = (m, s, grads[hm] / dm, grads[hs] * s / ds, values[hm], values[hs], grads[hs], grads[hm])
    return replace(Points(*(c.detach()[ok] for c in columns)), used=ok)


def match(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor | None:
    """`value` in the shape of `like`: sample axes in front are dropped, a pure change of shape is undone."""
    while value.dim() > like.dim() and value.shape[1:] == like.shape:
        value = value[0]
    return value.reshape(like.shape) if value.numel() == like.numel() else None
