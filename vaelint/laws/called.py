"""Where a helper is called: a density that is right in itself may be asked for at the wrong point."""

from __future__ import annotations

from torch import fx

from vaelint.anatomy.loss.terms import Term
from vaelint.core.finding import Span
from vaelint.laws.bench import Bench
from vaelint.record.record import route


def called(bench: Bench, node: fx.Node | None, term: Term) -> Span | None:
    """Where a density that other addends take as well is asked for at a draw: the density is right, what it was given is not."""
    flow = bench.model.flow
    leaf = next((leaf for leaf in term.leaves if node is not None and node in flow.ancestors(leaf.node) | {leaf.node}), None)
    if node is None or leaf is None or not any(f in flow.noisy for f in leaf.frontier):
        return None
    others = [o.node for t in bench.model.terms for o in t.leaves if o is not leaf and o.frontier and leaf.node not in (o.node, *o.chain)]
    shared = {(place.file, place.line) for n in others for place in route(n)}
    return next((place for place in route(node) if (place.file, place.line) not in shared), None)
