"""Addends of a likelihood that see nothing of the decoder: of a dispersion that a condition chooses, as of each batch of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from vaelint.record.flow import Flow

if TYPE_CHECKING:
    from vaelint.anatomy.loss.terms import Leaf


def chosen_by_condition(leaves: list[Leaf], outputs: set[fx.Node] | frozenset[fx.Node], flow: Flow) -> list[Leaf]:
    """Addends of the data and of a number that a reconstruction has too, which is learned, not decoded, and made without those data.

    log NB(x; m, r) has lgamma(x + r) - lgamma(r) beside what the decoder is in; r may be a row that the condition picks.
    """
    given = set(flow.record.inputs.values())
    known = []
    for leaf in (other for other in leaves if other.role == "reconstruction"):
        data = given & flow.ancestors(*(f for f in leaf.frontier if f not in flow.learned))
        known.append(({f for f in leaf.frontier if f in flow.learned and f not in outputs and data.isdisjoint(flow.ancestors(f))}, data))
    found = []
    for leaf in (other for other in leaves if other.role == "other"):
        learned = {f for f in leaf.frontier if f in flow.learned}
        data = given & flow.ancestors(*(f for f in leaf.frontier if f not in flow.learned))
        if learned and any(learned <= own and data <= compared for own, compared in known):
            found.append(leaf)
    return found
