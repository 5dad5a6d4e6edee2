"""The KL of Gamma, Beta and Dirichlet posteriors, by its gradient in the concentration, whatever the prior is.

With A(a) = log Gamma(a) of a Gamma posterior, and sum_k log Gamma(a_k) - log Gamma(sum_k a_k) of a Dirichlet one, A is the
log-normaliser of an exponential family, and for a prior of parameters b (Nielsen & Garcia 2009, Statistical
exponential families, section 3)

    d KL(q || p) / da = A''(a) (a - b),        d KL(p || q) / da = A'(a) - A'(b),

up to what the rate of a Gamma adds, which is constant where the rate is. Both are linear in what is not known of the prior.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import fx

from vaelint.anatomy.kl.kl_probe import KlProbe, Verdict
from vaelint.anatomy.kl.readings import fit
from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.terms import Term
from vaelint.anatomy.posterior.sites import Site
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.walk import behind
from vaelint.replay.measuring import bases, measured, own_symbols
from vaelint.replay.replay import Replay, ReplayError, gradients

if TYPE_CHECKING:
    from vaelint.anatomy.loss.facts import KlFact

Family = Literal["Gamma", "Dirichlet"]
_DRAWN_BY: dict[str, Family] = {"standard_gamma": "Gamma", "sample_dirichlet": "Dirichlet"}
FAMILIES = frozenset(_DRAWN_BY.values())
"""Families whose posteriors are drawn by a concentration."""

_TOLERANCE = 1e-6
_RUNS = 6


@dataclass(frozen=True)
class ConcentrationFit:
    """A term as `weight` times KL(q || p), or times KL(p || q)."""

    weight: float
    is_reversed: bool


def concentration(term: Term) -> tuple[Site, fx.Node, Family] | None:
    """The one posterior of a term that is drawn by its concentration, that concentration, and the family."""
    found = [(s, s.roots[0], _DRAWN_BY[ops.op(s.roots[0])]) for s in term.sites if s.roots and ops.op(s.roots[0]) in _DRAWN_BY]
    if len(found) != 1 or len(term.sites) != 1:
        return None
    site, root, family = found[0]
    if any(site.z in leaf.frontier for leaf in term.leaves):
        return None  # an estimate at the draw
    return site, behind(ops.value_inputs(root)[0], ops.SHAPE | ops.CAST), family


def random_concentrations(size: tuple[int, ...], seed: int) -> Float[torch.Tensor, "*size"]:
    """Concentrations between 0.2 and 4."""
    generator = torch.Generator().manual_seed(seed)
    return 0.2 + 3.8 * torch.rand(size, dtype=torch.float64, generator=generator)


def fit_concentration(
    a: Float[torch.Tensor, "n k"], g: Float[torch.Tensor, "n k"], family: Family, tolerance: float = _TOLERANCE
) -> ConcentrationFit | None:
    """Gradients at n concentrations, for each of k elements on its own prior; None where they are those of neither KL."""
    whole = a.sum(-1, keepdim=True)
    slope, curve = torch.digamma(a), torch.polygamma(1, a)
    bent = torch.ones_like(whole)
    forward = a * curve
    if family == "Dirichlet":
        bent = torch.polygamma(1, whole)
        slope, forward = slope - torch.digamma(whole), forward - whole * bent
    for is_reversed, columns in ((False, (forward, curve, bent)), (True, (slope, torch.ones_like(whole)))):
        weights = []
        for k in range(a.shape[1]):
            solved, residual = fit(g[:, k], [c.expand_as(a)[:, k] for c in columns])
            proper = is_reversed or -solved[1] > tolerance * abs(solved[0]) if solved[0] > 0 else True  # a prior's b is above 0
            if residual < tolerance and solved[0] and proper:
                weights.append(solved[0])
        if len(weights) == a.shape[1] and max(weights) - min(weights) <= 1e3 * tolerance * max(abs(w) for w in weights):
            return ConcentrationFit(median(weights), is_reversed)
    return None


def _fitted(term: Term, loss: fx.Node, replay: Replay, even: float, sizes: Mapping[str, int]) -> ConcentrationFit | None:
    found = concentration(term)
    assert found is not None
    _, at, family = found
    quiet = {
        n: v for n, v in silence_others(term, replay, sizes).items() if n.meta.get("grad")
    }  # a prior that is added stands in factors too
    fixed = {
        f: torch.full(replay.shape_of(f, sizes), 0.3, dtype=torch.float64)
        for f in dict.fromkeys(f for leaf in term.leaves for f in leaf.frontier)
        if f.meta.get("grad") and f is not at
    }
    values, slopes = [], []
    for seed in range(_RUNS):
        leaf = random_concentrations(replay.shape_of(at, sizes), seed).requires_grad_()
        out = replay([loss], {**quiet, **fixed, at: leaf.clone()}, sizes, even=even)[loss]
        if not isinstance(out, torch.Tensor) or not out.requires_grad:
            return None
        (g,) = gradients(out, [leaf])
        if g is None:
            return None
        values.append(leaf.detach().flatten(0, -2))
        slopes.append(g.flatten(0, -2))
    return fit_concentration(torch.cat(values), torch.cat(slopes), family)


def measure_concentration(fact: KlFact, loss: fx.Node, replay: Replay, symbols: Mapping[str, int]) -> None:
    """Names a term that is one of these KLs, and measures its weight."""
    found = concentration(fact.term)
    if found is None:
        return
    site, _, family = found
    for base in bases(symbols):
        try:
            fitted = _fitted(fact.term, loss, replay, 1.0, base)
        except ReplayError:
            continue
        if fitted is not None:
            verdict: Verdict = "sign" if fitted.weight < 0 else "reversed" if fitted.is_reversed else "concentration"
            fact.probe, fact.site = KlProbe(verdict, fitted.weight, family=family), None
            fact.latent = own_symbols(replay.texts_of(site.z), symbols)
            fact.scaling = measured(partial(_weight, fact.term, loss, replay), symbols, replay)
        return


def _weight(term: Term, loss: fx.Node, replay: Replay, even: float, sizes: Mapping[str, int]) -> float:
    fitted = _fitted(term, loss, replay, even, sizes)
    return fitted.weight if fitted is not None else 0.0
