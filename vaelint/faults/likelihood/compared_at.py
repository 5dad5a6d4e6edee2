"""The places that findings about a reconstruction term point at."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import fx

from vaelint.anatomy.loss import signs
from vaelint.anatomy.loss.facts import ReconFact
from vaelint.core.finding import Span
from vaelint.faults.likelihood.made_at import made_at
from vaelint.faults.likelihood.swapped import crossed_call
from vaelint.record import ops
from vaelint.record.record import shape, span
from vaelint.record.walk import back

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def compared_at(model: Model, fact: ReconFact) -> Span | None:
    """Where reconstruction and target are compared; where the loss is made, when the call is in no file."""
    return span(fact.pair.meet) or made_at(model, fact.pair.meet)


def given_at(model: Model, fact: ReconFact) -> Span | None:
    """Where the likelihood is given the reconstruction: where its distribution is made, else where the two are compared."""
    behind = set(back(fact.pair.recon, ops.SHAPE | ops.CAST))
    behind |= {n for n in model.flow.users.get(fact.pair.recon, ()) if ops.op(n) == "sub"}  # normalised where it is made
    for made in reversed(model.record.distributions):
        if made.stack and behind & set(made.parameters.values()):
            return made.stack[0]
    return span(fact.pair.meet)


def exchanged_at(model: Model, fact: ReconFact) -> Span | None:
    """Where data and reconstruction change places: the call of a helper that crosses them, else where the two are compared."""
    return crossed_call(model, fact.pair.meet) or span(fact.pair.meet)


def recon_sign_place(model: Model, fact: ReconFact) -> fx.Node | None:
    """Where a reconstruction term gets its wrong sign."""
    alone = sum(other.term is fact.term for other in model.recons) == 1
    place = signs.sign_place(model, fact.pair.leaf, fact.term.core if alone else None)
    return own_scale(model, fact) or fact.pair.meet if place in (fact.term.core, fact.pair.leaf.node) else place


def own_scale(model: Model, fact: ReconFact) -> fx.Node | None:
    """The logarithm of the mean error that the error is divided by, where the scale of a likelihood is made of the error itself.

    Source: Rybkin et al. 2021, Simple and effective VAE training with calibrated decoders, section 4.
    """
    flow = model.flow
    between = flow.descendants(fact.pair.meet) & flow.ancestors(fact.pair.leaf.node)
    whole = math.prod(shape(fact.pair.meet))  # a logarithm of each error, as of log cosh, is no scale
    return next((n for n in flow.sorted(between) if ops.op(n) == "log" and math.prod(shape(n)) < whole), None)


def normalises(model: Model, fact: ReconFact) -> bool:
    """Whether what a term takes off is made of what it rewards against the same target: `x * (log_rate - log_total)`, a normaliser."""
    rewarded = (other.pair for other in model.recons if other.probe.weight > 0 and other.pair.meet is fact.pair.meet)
    behind = model.flow.ancestors(fact.pair.recon)
    return any(pair.recon in behind and pair.recon is not fact.pair.recon for pair in rewarded)
