"""The KL of a von Mises-Fisher posterior to the uniform distribution on the sphere, held against the closed form.

With d dimensions and A(k) = I_{d/2}(k) / I_{d/2-1}(k), dKL/dk = k A'(k) and A' = 1 - A^2 - (d - 1) A / k: the KL depends on the
concentration k alone (Davidson et al. 2018, equation 4 and appendix B).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import torch
from torch import fx

from vaelint.anatomy.kl.kl_probe import KlProbe, Verdict
from vaelint.anatomy.loss.facts import KlFact
from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.term_weights import factors
from vaelint.anatomy.loss.terms import Term
from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.record.record import shape
from vaelint.replay.measuring import bases, measured
from vaelint.replay.replay import Replay, ReplayError, gradients
from vaelint.source.written import Source

_TOLERANCE = 1e-5
_DEPTH = 400  # terms of the continued fraction: far more than a concentration below 20 needs


def read_sphere(term: Term, loss: fx.Node, flow: Flow, replay: Replay, symbols: Mapping[str, int], source: Source) -> KlFact | None:
    """The term as `weight * KL(vMF(m, k) || uniform)`, k one of the values it is made of; None where it is none."""
    known = sphere_of(term, loss, flow, replay, symbols)
    if known is None:
        return None
    scaling = measured(partial(_weight, term, loss, replay, *known), symbols, replay)
    if scaling is None:
        return None
    chain = tuple(dict.fromkeys(n for leaf in term.leaves for n in leaf.chain))
    verdict: Verdict = "sphere" if scaling.constant > 0 else "sign"
    return KlFact(term, None, KlProbe(verdict, scaling.constant, family="von Mises-Fisher"), scaling, factors(chain, source))


def sphere_of(term: Term, loss: fx.Node, flow: Flow, replay: Replay, symbols: Mapping[str, int]) -> tuple[fx.Node, int] | None:
    """The concentration that the term is this KL of, and the dimensions of the draws; None where it is none."""
    heads = {f for leaf in term.leaves for f in leaf.frontier}
    if len(heads) != 1 or not flow.descendants(*heads) & flow.noisy or not any(a for a in term.leaves if a.node.meta.get("grad")):
        return None
    inside = flow.ancestors(*(leaf.node for leaf in term.leaves), stop=heads)
    (head,) = heads
    for k in flow.sorted({head, *(n for n in inside if math.prod(shape(n)) == math.prod(shape(head)))}):
        if k is not head and (ops.op(k) not in ops.POINTWISE | ops.SHAPE or head not in flow.ancestors(k)):
            continue
        dimensions = _dimensions(k, flow)
        for base in bases(symbols) if dimensions else ():
            try:
                found = next((d for d in dimensions if _weight(term, loss, replay, k, d, 0.0, base)), None)
            except ReplayError:
                continue
            if found is not None:
                return k, found
            break
    return None


def _dimensions(k: fx.Node, flow: Flow) -> list[int]:
    """How many dimensions the directions have that a concentration scatters: those of the draws that it enters."""
    drawn = {
        shape(n)[-1]
        for n in flow.descendants(k) & flow.noisy
        if not ops.uses_parameter(n) and shape(n) and (len(shape(n)) == len(shape(k)) or shape(n)[:-1] == shape(k))
    }
    return sorted(drawn - {1})


def _weight(term: Term, loss: fx.Node, replay: Replay, k: fx.Node, dimension: int, even: float, sizes: Mapping[str, int]) -> float:
    """The weight at these sizes; 0 where the slope in k is not that of this KL. Raises `ReplayError`."""
    generator = torch.Generator().manual_seed(3)
    value = (0.3 + 8 * torch.rand(replay.shape_of(k, sizes), dtype=torch.float64, generator=generator)).requires_grad_()
    out = replay([loss], {**silence_others(term, replay, sizes), k: value.clone()}, sizes, even=even)[loss]
    if not isinstance(out, torch.Tensor) or not out.requires_grad:
        return 0.0
    (g,) = gradients(out, [value])
    if g is None:
        return 0.0
    at = value.detach()
    a = mean_length(at, dimension)
    shares = (g / (at * (1 - a**2 - (dimension - 1) * a / at))).flatten()
    w = float(shares.median())
    return w if float((shares - w).abs().max()) <= _TOLERANCE * abs(w) else 0.0


def mean_length(k: torch.Tensor, dimension: int) -> torch.Tensor:
    """I_{d/2}(k) / I_{d/2-1}(k), by its continued fraction."""
    order = dimension / 2
    value = torch.zeros_like(k)
    for n in range(_DEPTH, -1, -1):
        value = 1 / (2 * (order + n) / k + value)
    return value
