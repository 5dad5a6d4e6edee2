"""A draw that is decoded for nothing, while what is compared with the data is made of the encoder's own values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from vaelint.core.finding import Span
from vaelint.faults.sampling.idle import branch_point
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import is_tensor, shape
from vaelint.replay.per_model import per_model

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model
    from vaelint.anatomy.posterior.sites import Site


@dataclass(frozen=True)
class Features:
    """What is read past the draw, where, and what it comes to be compared as."""

    source: fx.Node
    span: Span | None
    recon: fx.Node
    idle: fx.Node  # what was made of the draw


@per_model
def features_decoded(model: Model) -> Features | None:
    """VAE225: a reconstruction made of what the encoder has before its heads, beside a KL and a draw that a layer reads in vain."""
    if model.sites or model.recons or not any(term.role == "kl" for term in model.terms):
        return None
    for site in model.idle_sites:
        below = [n for n in model.flow.sorted(model.flow.descendants(site.z)) if ops.uses_parameter(n) and is_tensor(n)]
        found = _made_of_features(model, site, below[-1]) if below and site.heads else None
        if found is not None:
            return found
    return None


def _made_of_features(model: Model, site: Site, idle: fx.Node) -> Features | None:
    flow = model.flow
    encoder = flow.ancestors(*site.heads) & flow.data & flow.learned - set(site.heads)
    leaves = [leaf.node for leaf in model.leaves if leaf.node not in flow.descendants(*site.heads)]
    for node in flow.sorted(flow.ancestors(*leaves)):
        made = [n for n in ops.value_inputs(node) if n in flow.data and n in flow.learned and n not in flow.noisy]
        data = [n for n in ops.value_inputs(node) if n in flow.data and n not in flow.learned]
        if len(made) != 1 or len(data) != 1 or shape(made[0]) != shape(data[0]) or ops.op(node) not in ops.LOSSES | ops.ADD:
            continue
        way = flow.ancestors(made[0]) - encoder
        first = next((n for n in flow.sorted(way) if ops.uses_parameter(n) and any(i in encoder for i in ops.value_inputs(n))), None)
        if first is not None and not way & set(site.heads):
            source = next(i for i in ops.value_inputs(first) if i in encoder)
            return Features(source, branch_point(first, site.z), made[0], idle)
    return None
