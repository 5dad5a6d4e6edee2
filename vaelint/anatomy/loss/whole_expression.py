"""The expression that holds a whole term: where its formula is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from vaelint.record import ops
from vaelint.record.flow import Flow

if TYPE_CHECKING:
    from vaelint.anatomy.loss.terms import Leaf, Term


def _one_turn(leaves: list[Leaf], flow: Flow) -> list[Leaf]:
    """The addends that one turn of a loop makes: the shortest run of places that the whole is a repetition of."""
    joins = sorted(((leaf.chain[-1] if leaf.chain else leaf.node, leaf) for leaf in leaves), key=lambda pair: flow.order[pair[0]])
    places = [(tuple(join.meta.get("stack") or ()), ops.op(join), ops.op(leaf.node)) for join, leaf in joins]
    for n in range(1, len(places) // 2 + 1):
        if len(places) % n == 0 and places == places[:n] * (len(places) // n):
            return [leaf for _, leaf in joins[:n]]
    return leaves


def core_of(term: Term, flow: Flow) -> fx.Node | None:
    """The innermost expression that holds all addends of a term: where its formula is written."""
    first = [set(leaf.chain) | {leaf.node} for leaf in _one_turn(term.leaves, flow)]
    shared = set.intersection(*first) if first else set()
    if not shared:
        return None
    candidates = [n for n in shared if n.op == "call_function"]
    return min(candidates, key=flow.order.__getitem__, default=None)
