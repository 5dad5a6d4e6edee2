"""Distances between codes and draws of the prior (maximum mean discrepancy, sliced Wasserstein): whether the loss grows with them.

At codes that are spread as the prior's draws are, such a distance is about 0; it grows as the codes are moved away.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.kl.kl_probe import KNOWN
from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.signs import sign_place
from vaelint.anatomy.loss.terms import Term
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

FAR = (2.0, 4.0)
"""How far the codes are moved, in standard deviations of the prior."""

_SEEDS = 3


def turned_discrepancies(model: Model) -> list[tuple[Term, fx.Node | None]]:
    """VAE407: distances to the prior that enter with the wrong sign, and where they get it."""
    return [(t, sign_place(model, t.leaves[0], t.core)) for t in _turned(model)]


def _turned(model: Model) -> list[Term]:
    """Distances to the prior that the loss falls with. Those that a critic measures are left out: it is trained to tell, in either sign."""
    loss, found = model.record.loss, []
    for term in model.terms_of("discrepancy") if loss is not None else ():
        codes = codes_of(model, term)
        if term.detached is not None or not codes or _has_critic(model, term, codes) or not all(_is_live(model, term, c) for c in codes):
            continue
        try:
            near, *far = (_at(model, term, codes, move) for move in (0.0, *FAR))
        except ReplayError:
            continue
        if all(f < near - 1e-3 * abs(near) - 1e-9 for f in far) and not _held(model, codes, near - far[-1]):
            found.append(term)
    return found


def codes_of(model: Model, term: Term) -> list[fx.Node]:
    """What the encoder gives of a distance: the values of its addends that are made of data, with the samples first."""
    values = dict.fromkeys(f for leaf in term.leaves for f in leaf.frontier)
    return [f for f in values if f in model.flow.data and f in model.flow.learned and len(shape(f)) == 2]


def _is_live(model: Model, term: Term, code: fx.Node) -> bool:
    """Whether a gradient comes from the distance to a code: one that is detached on the way is given, and rewards no encoder."""
    ends = {leaf.node for leaf in term.leaves}
    inside = model.flow.ancestors(*ends) | ends
    reached, left = {code}, [code]
    while left:
        node = left.pop()
        if node.op == "call_function" and not node.meta.get("grad"):
            continue
        if node in ends:
            return True
        more = [u for u in model.flow.users.get(node, ()) if u in inside and u not in reached]
        reached.update(more)
        left += more
    return False


def _has_critic(model: Model, term: Term, codes: list[fx.Node]) -> bool:
    inside = model.flow.ancestors(*(leaf.node for leaf in term.leaves), stop=set(codes))
    return any(n.op == "get_attr" and n.meta.get("parameter") for n in inside)


def _held(model: Model, codes: list[fx.Node], fall: float) -> bool:
    """Whether a KL of the codes rises by more than the distance falls: (alpha + lambda - 1) is below 0 for alpha = 0 and a small lambda
    (Zhao et al. 2019, eq. 6), and the KL holds the codes."""
    rise = 0.0
    for fact in model.kls:
        if fact.probe.verdict in KNOWN and fact.scaling is not None and fact.site is not None and fact.site.z in codes:
            rise += fact.scaling.value * math.prod(shape(fact.site.z)) * FAR[-1] ** 2 / 2
    return rise > fall


def _at(model: Model, term: Term, codes: list[fx.Node], move: float) -> float:
    """The term alone, with normal codes that are moved in all directions."""
    sizes, loss = dict(model.symbols), model.record.loss
    assert loss is not None
    quiet = silence_others(term, model.replay, sizes)
    total = 0.0
    for seed in range(_SEEDS):
        generator = torch.Generator().manual_seed(900 + seed)
        given = {c: move + torch.randn(model.replay.shape_of(c, sizes), dtype=torch.float64, generator=generator) for c in codes}
        total += float(model.replay([loss], {**quiet, **given}, sizes, seed=seed)[loss].sum())
    return total / _SEEDS
