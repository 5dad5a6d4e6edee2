"""A posterior of several that the loss is charged for, and whose draw nothing reads: another one was decoded in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.record.record import shape
from vaelint.replay.per_model import per_model

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model
    from vaelint.anatomy.posterior.sites import Site


@dataclass(frozen=True)
class NeverDecoded:
    """A draw that leads nowhere, its mean, and where another draw of its size is decoded for the data that it is made of."""

    draw: fx.Node
    mean: fx.Node
    instead: fx.Node | None


@per_model
def never_decoded(model: Model) -> list[NeverDecoded]:
    """Draws that nothing reads beside others that are decoded, where a KL of the loss is all that sees their mean.

    Left alone are draws whose moments meet those of another draw (a prior that draws as well), those that a term of another kind sees, and
    steps without a reconstruction.
    """
    flow, raw = model.flow, [n for fact in model.recons for n in (fact.pair.recon, *fact.pair.raw)]
    if not model.sites or not raw:
        return []
    decoded = flow.ancestors(*raw)
    found: list[NeverDecoded] = []
    for site in (*model.idle_sites, *model.dropped_sites):
        mean = site.mu
        if site.kind not in ("gaussian", "drawn") or mean is None or not site.scale_heads or not site.z.meta.get("grad"):
            continue
        if flow.users.get(site.z) or mean in decoded or not _is_only_charged(model, site, mean):
            continue
        found.append(NeverDecoded(site.z, mean, _instead(model, site)))
    return found


def _is_only_charged(model: Model, site: Site, mean: fx.Node) -> bool:
    """Whether some addends of the loss see the mean, each of them with nothing but this posterior."""
    flow, others = model.flow, {h for s in model.sites for h in (s.mu, s.scale)} - {None}
    seen = [leaf for leaf in model.leaves if mean in flow.ancestors(leaf.node) | {leaf.node}]
    own = flow.ancestors(*site.heads) | set(site.heads)
    return bool(seen) and not any((flow.ancestors(leaf.node) - own) & (others - own) for leaf in seen)


def _instead(model: Model, site: Site) -> fx.Node | None:
    """Where a draw of the same size that has not seen its data is joined to what decodes these."""
    flow, inputs = model.flow, set(model.record.inputs.values())
    sees = flow.ancestors(*site.heads) & inputs
    for fact in model.recons:
        wanted = (flow.ancestors(fact.pair.target) | {fact.pair.target}) & inputs if fact.pair.target is not None else set()
        way = flow.ancestors(fact.pair.recon)
        for other in model.sites if wanted and wanted <= sees else ():
            if other.z in way and shape(other.z) == shape(site.z) and not flow.ancestors(*other.heads) & wanted:
                return next((n for n in flow.sorted(way & set(flow.users.get(other.z, ()))) if _is_join(n)), None)
    return None


def _is_join(node: fx.Node) -> bool:
    return ops.op(node) in ops.JOIN | ops.ADD or ops.uses_parameter(node)
