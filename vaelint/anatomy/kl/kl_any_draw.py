"""A Monte Carlo KL of a posterior of any form, drawn as z = g(h, e): on a manifold, by a flow, with moments that are mixed.

At a fixed draw e, log q(g(h, e)) moves with the encoder's outputs h as minus the log-volume of dg/de does, and log p(z) through z alone:

    d/dh [log q(z) - log p(z)] = -d/dh (1/2) log det (J^T J) + (dz/dh)^T s        with J = dg/de, for some vector s of each sample,

whatever p is, and whatever measure the densities are taken in, as another measure adds a function of z. What the term's gradient has
outside of the range of (dz/dh)^T gives its weight; that one weight explains all of it says that the term is such a KL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import fx

from vaelint.anatomy.kl.kl_points import values_of
from vaelint.anatomy.kl.kl_probe import KlProbe
from vaelint.anatomy.kl.readings import agree, fit
from vaelint.anatomy.loss.facts import KlFact
from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.term_weights import factors
from vaelint.anatomy.loss.terms import Term
from vaelint.anatomy.posterior.sites import Site
from vaelint.core.reach import ends
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.replay.measuring import bases, measured
from vaelint.replay.replay import Replay, ReplayError, gradients
from vaelint.source.written import Source

_LARGEST = 64
_TOLERANCE = 1e-6
_RUNS = 4


@dataclass(frozen=True)
class _Draw:
    """z = g(heads, noise), and the term that sees all three."""

    term: Term
    loss: fx.Node
    z: fx.Node
    heads: tuple[fx.Node, ...]
    noise: tuple[fx.Node, ...]


def read_any_draw(term: Term, loss: fx.Node, flow: Flow, replay: Replay, symbols: Mapping[str, int], source: Source) -> KlFact | None:
    """The term as `weight * (log q(z) - log p(z))`; None where it is no such estimate."""
    draw = _draw(term, loss, flow)
    if draw is None:
        return None
    for base in bases(symbols):
        try:
            if not _weight(draw, replay, 0.0, base):
                return None
        except ReplayError:
            continue
        scaling = measured(partial(_weight, draw, replay), symbols, replay)
        if scaling is None:
            return None
        chain = tuple(dict.fromkeys(n for leaf in term.leaves for n in leaf.chain))
        probe = KlProbe("sign" if scaling.constant < 0 else "drawn", scaling.constant, monte_carlo=True, family="")
        return KlFact(term, None, probe, scaling, factors(chain, source))
    return None


def ends_at_normal(term: Term, loss: fx.Node, site: Site, end: fx.Node, replay: Replay, symbols: Mapping[str, int]) -> bool:
    """Whether a term is log q(e) - log N(e; 0, 1) for the end e of a chain of maps that begins with a site's draw.

    Its gradient is then w (-d log-volume + (de/dh)^T e): that of a flow whose log-determinants are in the loss (Rezende and Mohamed 2015).
    """
    draw = _Draw(term, loss, end, site.heads, site.roots)
    for base in bases(symbols):
        try:
            first = _slopes(draw, replay, 0.0, base, 0)
            if fit(*_flow_parts([first]))[1] >= _TOLERANCE:  # it holds at no other values either
                return False
            slopes = [first, _slopes(draw, replay, 0.0, base, 1)]
        except ReplayError:
            continue
        (w, v), residual = fit(*_flow_parts(slopes))
        return residual < _TOLERANCE and w > 0 and agree(w, v)
    return False


def _flow_parts(slopes: Sequence[_Slopes]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The gradient of a term, and the two that one of a flow is made of."""
    pull = torch.cat([(s.through.mT @ s.z.unsqueeze(-1)).flatten() for s in slopes])
    return torch.cat([s.gradient.flatten() for s in slopes]), [pull, -torch.cat([s.volume.flatten() for s in slopes])]


def _draw(term: Term, loss: fx.Node, flow: Flow) -> _Draw | None:
    """The one value that the decoder's first layer reads and that noise and encoder outputs make without a layer between."""
    inside = flow.ancestors(*(leaf.node for leaf in term.leaves))
    noise = {n for n in inside & flow.random if n not in flow.data}
    if not noise or any(not leaf.node.meta.get("grad") for leaf in term.leaves):
        return None
    reaching = flow.ancestors(loss)
    mixed = {n for n in flow.descendants(*noise) & reaching if n in flow.data and n in flow.learned}
    layers = [n for n in flow.sorted(mixed) if ops.uses_parameter(n)]
    read = {
        i for n in layers for i in ops.value_inputs(n) if i in mixed and not any(ops.uses_parameter(a) for a in flow.ancestors(i) & mixed)
    }
    if len(read) != 1:
        return None
    z = read.pop()
    heads = encoder_outputs(z, flow)
    stray = flow.ancestors(*(leaf.node for leaf in term.leaves), stop=heads)
    if not heads or any(n.op == "placeholder" for n in stray - heads) or not noise <= flow.ancestors(z):
        return None
    return _Draw(term, loss, z, tuple(flow.sorted(heads)), tuple(flow.sorted(noise)))


def encoder_outputs(z: fx.Node, flow: Flow) -> set[fx.Node]:
    """The outputs of layers that a draw is made of, without a layer between."""

    def sources(node: fx.Node) -> list[fx.Node] | None:
        return None if ops.uses_parameter(node) else [i for i in ops.value_inputs(node) if i in flow.data and i in flow.learned]

    return {h for h in ends([z], sources) if h in flow.data and ops.uses_parameter(h)}


def _weight(draw: _Draw, replay: Replay, even: float, sizes: Mapping[str, int]) -> float:
    """The one weight that explains the gradient beside what goes through z; 0 where there is none. Raises `ReplayError`."""
    seen, told = [], []
    for seed in range(_RUNS):
        at = _slopes(draw, replay, even, sizes, seed)
        for g, v, j in zip(at.gradient, at.volume, at.through, strict=True):
            _, s, vh = torch.linalg.svd(j)  # j: z by heads; the heads' directions that leave z where it is
            free = vh[int((s > 1e-9 * s.max()).sum()) :]
            seen.append(free @ g)
            told.append(free @ v)
    target, column = torch.cat(seen), torch.cat(told)
    power = float(column.square().sum())
    if column.numel() < 6 or power < 1e-12:
        return 0.0
    w = -float((column * target).sum()) / power
    off = float((target + w * column).abs().max())
    return w if off <= _TOLERANCE * float(target.abs().max()) else 0.0


@dataclass(frozen=True)
class _Slopes:
    """Of each sample: d term / d heads, d log-volume / d heads, dz / d heads, and z."""

    gradient: torch.Tensor
    volume: torch.Tensor
    through: torch.Tensor
    z: torch.Tensor


def _slopes(draw: _Draw, replay: Replay, even: float, sizes: Mapping[str, int], seed: int) -> _Slopes:
    """At random outputs of the encoder, and a random draw. Raises `ReplayError`."""
    values = values_of(list(draw.heads), replay, sizes, 0.8, 60 + seed)
    generator = torch.Generator().manual_seed(80 + seed)
    noise = {n: _noise(n, replay.shape_of(n, sizes), generator) for n in draw.noise}
    leaves = {n: v.clone().requires_grad_() for n, v in {**values, **noise}.items()}
    given = {n: v.clone() for n, v in leaves.items()}
    heads, drawn = [leaves[n] for n in draw.heads], [leaves[n] for n in draw.noise]
    out = replay([draw.loss], {**silence_others(draw.term, replay, sizes), **given}, sizes, even=even)[draw.loss]
    if not isinstance(out, torch.Tensor) or not out.requires_grad:
        raise ReplayError("no gradient reaches the posterior through this term")
    gradient = _rows(gradients(out, heads), heads)
    z = replay([draw.z], given, sizes, attached=True)[draw.z]
    rows = len(gradient)
    if z.shape[:1] != (rows,) or z[0].numel() > _LARGEST or sum(n[0].numel() for n in drawn) > _LARGEST:
        raise ReplayError("no one row of z for each sample")
    if not z.requires_grad:
        raise ReplayError("z does not follow its noise")
    spread, through = [], []
    for entry in z.reshape(rows, -1).unbind(1):
        spread.append(_rows(torch.autograd.grad(entry.sum(), drawn, create_graph=True, allow_unused=True), drawn))
        through.append(_rows(gradients(entry, heads, retain=True), heads))
    jacobian = torch.stack(spread, 1)  # sample, z, noise
    volume = 0.5 * torch.linalg.slogdet(jacobian.mT @ jacobian)[1]
    if not bool(volume.isfinite().all()) or not volume.requires_grad:
        raise ReplayError("the draw does not follow its noise")
    return _Slopes(gradient, _rows(gradients(volume, heads), heads), torch.stack(through, 1), z.detach().reshape(rows, -1))


def _noise(node: fx.Node, size: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """A draw of its own kind: uniform where it was uniform."""
    if ops.op(node) in ("rand", "rand_like", "uniform"):
        return 0.05 + 0.9 * torch.rand(size, dtype=torch.float64, generator=generator)
    return torch.randn(size, dtype=torch.float64, generator=generator)


def _rows(slopes: object, leaves: list[torch.Tensor]) -> torch.Tensor:
    """Slopes in several leaves side by side, a row for each sample."""
    assert isinstance(slopes, list | tuple)
    whole = [torch.zeros_like(v) if g is None else g for g, v in zip(slopes, leaves, strict=True)]
    return torch.cat([g.reshape(g.shape[0], -1) for g in whole], 1)
