"""A KL in closed form of a posterior of any family drawn element by element, v = g(h, u), held against its own sampler.

KL(q || p) = -H(q) - E_q[log p(v)]. The entropy is E_u[log |dv/du|] up to a constant, by quadrature over the draw u; for a prior of an
exponential family, E_q[log p] is a sum of E[v], E[v^2], and of E[log v], E[log(1 - v)] where v is positive, or in (0, 1). The weight of
-H in that sum is the weight of the term. A series that is cut off, as that of a Kumaraswamy posterior against a Beta prior (Nalisnick
and Smyth 2017, equation 8), is met up to its remainder.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import fx

from vaelint.anatomy.kl.kl_any_draw import encoder_outputs
from vaelint.anatomy.kl.kl_probe import KlProbe
from vaelint.anatomy.kl.readings import fit
from vaelint.anatomy.loss.facts import KlFact
from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.term_weights import factors
from vaelint.anatomy.loss.terms import Term
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.record.record import shape
from vaelint.replay.measuring import bases, measured
from vaelint.replay.replay import Replay, ReplayError, gradients
from vaelint.replay.scale import Scaling
from vaelint.source.written import Source

_NODES = 40
_TOLERANCE = 3e-3  # of the fit: a series may be cut off
_AGREE = 5e-3  # of the weight, between two ranges of the heads
_RANGES = ((2.5, 5.0), (4.0, 8.0))
_UNIFORM = ("rand", "rand_like", "uniform")


@dataclass(frozen=True)
class _Drawn:
    term: Term
    loss: fx.Node
    v: fx.Node
    noise: fx.Node
    heads: tuple[fx.Node, ...]


def read_by_sampler(term: Term, loss: fx.Node, flow: Flow, replay: Replay, symbols: Mapping[str, int], source: Source) -> KlFact | None:
    """The term as `weight * KL(q || p)`; None where it is no such function."""
    drawn = _drawn(term, loss, flow)
    if drawn is None:
        return None
    for base in bases(symbols):
        try:
            w = _weight(drawn, replay, base)
            pull = _pull(drawn, replay, 0.0, base)
        except ReplayError:
            continue
        scaling = measured(partial(_pull, drawn, replay), symbols, replay) if w and pull else None
        if scaling is None:
            return None
        scaling = _in_units(scaling, pull / w)
        chain = tuple(dict.fromkeys(n for leaf in term.leaves for n in leaf.chain))
        probe = KlProbe("sampled", scaling.constant, family="", reason="held against its own sampler")
        return KlFact(term, None, probe, scaling, factors(chain, source))
    return None


def _drawn(term: Term, loss: fx.Node, flow: Flow) -> _Drawn | None:
    """The one draw of the loss that is made element by element of the term's own heads."""
    heads = {f for leaf in term.leaves for f in leaf.frontier}
    inside = flow.ancestors(*(leaf.node for leaf in term.leaves), stop=heads)
    if not heads or inside & flow.noisy or any(n.op == "placeholder" for n in inside):
        return None
    noise = [n for n in flow.random & flow.ancestors(loss) if n not in flow.data]
    if len(noise) != 1 or any(shape(h) != shape(noise[0]) for h in heads):
        return None
    v = noise[0]
    while len(users := flow.users.get(v, [])) == 1 and ops.op(users[0]) in ops.POINTWISE and shape(users[0]) == shape(v):
        v = users[0]
    return _Drawn(term, loss, v, noise[0], tuple(flow.sorted(heads))) if encoder_outputs(v, flow) == heads else None


def _weight(drawn: _Drawn, replay: Replay, sizes: Mapping[str, int]) -> float:
    """The weight that two ranges of the heads agree on; 0 where there is none. Raises `ReplayError`."""
    found = [_fitted(drawn, replay, sizes, low, high) for low, high in _RANGES]
    weights = [w for w in found if w is not None and w > 0]
    return weights[-1] if len(weights) == len(found) and abs(weights[0] / weights[-1] - 1) < _AGREE else 0.0


def _pull(drawn: _Drawn, replay: Replay, even: float, sizes: Mapping[str, int]) -> float:
    """The gradient of one element where all heads are alike: how the term moves with the sizes. Raises `ReplayError`."""
    leaves = {h: torch.full(replay.shape_of(h, sizes), _RANGES[-1][0], dtype=torch.float64).requires_grad_() for h in drawn.heads}
    given = {n: v.clone() for n, v in leaves.items()}
    out = replay([drawn.loss], {**silence_others(drawn.term, replay, sizes), **given}, sizes, even=even)[drawn.loss]
    return float(_slopes(out, list(leaves.values()))[0])


def _in_units(pull: Scaling, unit: float) -> Scaling:
    """The scaling of the weight, of which the pull is `unit` times as much; a short number where the fit is as near as it can be."""
    constant = pull.constant / unit
    short = float(f"{constant:.2g}")
    constant, factor = (short, short / pull.constant) if abs(constant / short - 1) < _AGREE else (constant, 1 / unit)
    return Scaling(pull.value * factor, pull.exponents, constant)


def _fitted(drawn: _Drawn, replay: Replay, sizes: Mapping[str, int], low: float, high: float) -> float | None:
    generator = torch.Generator().manual_seed(90)
    leaves = {
        h: (low + (high - low) * torch.rand(replay.shape_of(h, sizes), dtype=torch.float64, generator=generator)).requires_grad_()
        for h in drawn.heads
    }
    given = {n: v.clone() for n, v in leaves.items()}
    out = replay([drawn.loss], {**silence_others(drawn.term, replay, sizes), **given}, sizes)[drawn.loss]
    target = _slopes(out, list(leaves.values()))
    columns = [_slopes(part, list(leaves.values())) for part in _parts(drawn, replay, sizes, leaves)]
    if target.numel() < 3 * len(columns) or not all(bool(c.isfinite().all()) for c in columns):
        raise ReplayError("too few elements to tell the parts of the divergence apart")
    (w, *_), residual = fit(target, columns)
    return w if residual < _TOLERANCE else None


def _parts(drawn: _Drawn, replay: Replay, sizes: Mapping[str, int], leaves: Mapping[fx.Node, torch.Tensor]) -> list[torch.Tensor]:
    """-H, and the expectations that log p is made of, summed over the elements: by quadrature, drawn towards both ends."""
    t = (torch.arange(_NODES, dtype=torch.float64) + 0.5) / _NODES
    points, mass = t**2 * (3 - 2 * t), 6 * t * (1 - t) / _NODES
    values, rates = [], []
    for u in points:
        at = u if ops.op(drawn.noise) in _UNIFORM else torch.special.ndtri(u)
        noise = torch.full(replay.shape_of(drawn.noise, sizes), float(at), dtype=torch.float64).requires_grad_()
        v = replay([drawn.v], {drawn.noise: noise.clone(), **{n: h.clone() for n, h in leaves.items()}}, sizes, attached=True)[drawn.v]
        (rate,) = torch.autograd.grad(v.sum(), [noise], create_graph=True)
        values.append(v)
        rates.append(rate.abs().clamp_min(1e-30).log())
    v, rate = torch.stack(values), torch.stack(rates)
    of_prior = [v, v.square()]
    if float(v.detach().min()) > 0:
        of_prior.append(v.log())
        if float(v.detach().max()) < 1:
            of_prior.append((-v).log1p())
    return [torch.tensordot(mass, part, 1).sum() for part in (-rate, *of_prior)]


def _slopes(out: torch.Tensor, leaves: list[torch.Tensor]) -> torch.Tensor:
    if not isinstance(out, torch.Tensor) or not out.requires_grad:
        raise ReplayError("no gradient reaches the posterior")
    found = gradients(out, leaves, retain=True)
    return torch.cat([torch.zeros_like(v).flatten() if g is None else g.flatten() for g, v in zip(found, leaves, strict=True)])
