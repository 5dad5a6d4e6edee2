"""A scale that the loss holds against the prior while z is drawn without it: `z = mu + 0.1 * eps` beside the KL of (mu, logvar)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.anatomy.loss.isolate import silence_others
from vaelint.anatomy.loss.terms import Term
from vaelint.anatomy.posterior.sites import Site, frontier
from vaelint.faults.gradients.cuts import reconstruction_ends
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.flow import Flow
from vaelint.record.record import shape
from vaelint.replay.replay import ReplayError

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_TRIED = (-6.0, -3.0, -1.5, -0.75, 0.0, 0.75, 1.5, 3.0, 6.0)


@dataclass(frozen=True)
class Unscaled:
    """The draw, the head of the scale that it leaves out, and the last value computed from that head for nothing (a std), if any."""

    site: Site
    head: fx.Node
    computed: fx.Node | None


def unscaled_draws(model: Model) -> list[Unscaled]:
    """Draws with a mean, and noise that no head scales, where a term of the loss is a function of one further head of the mean's shape.

    That term must have its least value in between, as a divergence of a scale has: nothing else in the loss pulls at the head, so that it
    ends up there for every input. Heads that the reconstruction or another draw
    depends on are none of these, nor is what a layer made of a draw, such as the noise that a diffusion guesses.
    """
    flow, ends = model.flow, reconstruction_ends(model)
    if not ends:
        return []
    used = flow.ancestors(*ends, *(s.z for s in model.sites))
    charged = {h for k in model.kls if k.site is not None for h in k.site.mu_heads}
    found = []
    for site in model.sites:
        if site.kind not in ("noise", "gaussian") or site.mu is None or site.scale_heads or not charged & set(site.mu_heads):
            continue
        for term in model.terms_of("other"):
            head = _alone(term, flow)
            fits = head in flow.data and head in flow.learned - flow.noisy and shape(head) == shape(site.mu) if head is not None else False
            if head is not None and fits and head not in used and _has_a_floor(model, term, head):
                found.append(Unscaled(site, head, _computed(model, head)))
                break
    return found


def _alone(term: Term, flow: Flow) -> fx.Node | None:
    """The one value that a term is a function of: a layer's output, or a slice of it."""
    heads = set(frontier([leaf.node for leaf in term.leaves], flow))
    return next(iter(heads)) if len(heads) == 1 else None


def _has_a_floor(model: Model, term: Term, head: fx.Node) -> bool:
    """Whether the term, as a function of its head, is least in the middle and rises on both sides, or is infinite there."""
    assert model.record.loss is not None
    sizes = {**model.symbols, "B": 2}
    values = []
    try:
        silent = silence_others(term, model.replay, sizes)
        for at in _TRIED:
            filled = torch.full(model.replay.shape_of(head, sizes), at, dtype=torch.float64)
            got = model.replay([model.record.loss], {**silent, head: filled}, sizes)[model.record.loss]
            values.append(float(got.sum()))
    except (ReplayError, RuntimeError, ValueError):
        return False
    finite = [v for v in values if math.isfinite(v)]
    if len(finite) < 3:
        return False
    least = values.index(min(finite))
    sides = values[0], values[-1]
    return 0 < least < len(values) - 1 and all(not math.isfinite(v) or v > min(finite) for v in sides)


def _computed(model: Model, head: fx.Node) -> fx.Node | None:
    """The last value made of the head alone that nothing reads: the standard deviation that was meant for the draw."""
    below = model.flow.sorted(model.flow.descendants(head))
    idle = [n for n in below if n is not head and n not in model.reaching_loss and ops.op(n) in ops.POINTWISE and shape(n) == shape(head)]
    return idle[-1] if idle else None
