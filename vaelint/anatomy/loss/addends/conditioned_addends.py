"""Addends of a likelihood that see nothing of the decoder: of a dispersion that a condition chooses, as of each batch of cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import fx

from vaelint.anatomy.loss.addends.masked_addends import only_masks
from vaelint.core.reach import reachable
from vaelint.record import ops
from vaelint.record.flow import Flow

if TYPE_CHECKING:
    from vaelint.anatomy.loss.terms import Leaf


def compared(addend: fx.Node, front: Sequence[fx.Node], data: list[fx.Node], flow: Flow, *, chosen: bool) -> list[fx.Node]:
    """The data that an addend of a posterior is held against: no masks, and with `chosen` no labels that choose a prior's moments."""
    if only_masks(addend, front, data):
        return []
    return [f for f in data if not only_chooses(f, addend, flow)] if chosen else data


def only_chooses(label: fx.Node, addend: fx.Node, flow: Flow) -> bool:
    """Whether an input takes part in an addend as the index into numbers that are no data: the moments of a prior for each label."""
    inside = flow.ancestors(addend)
    readers = reachable([label], lambda n: flow.users.get(n, ()) if n is label or ops.op(n) in ops.SHAPE else ())
    uses = [u for u in readers if u in inside and u is not label and ops.op(u) not in ops.SHAPE]
    return bool(uses) and all(ops.op(u) in ops.SELECT and ops.value_inputs(u)[0] not in flow.data for u in uses)


def chosen_by_condition(leaves: list[Leaf], outputs: set[fx.Node] | frozenset[fx.Node], flow: Flow) -> list[Leaf]:
    """Addends of the data and of a number that a reconstruction has too, which is learned, not decoded, and made without those data.

    log NB(x; m, r) has lgamma(x + r) - lgamma(r) beside what the decoder is in; r may be a row that the condition picks, or made of one.
    Its r log(1 - p) is without data, and may read a draw beside the decoder: a library size.
    """
    given = set(flow.record.inputs.values())
    known = []
    for leaf in (other for other in leaves if other.role == "reconstruction"):
        data = given & flow.ancestors(*(f for f in (*leaf.frontier, *leaf.factors) if f not in flow.learned))
        chosen = {f for f in leaf.frontier if f in flow.learned and f not in outputs and data.isdisjoint(flow.ancestors(f))}
        known.append((chosen, set(leaf.frontier), data))
    found = []
    for leaf in (other for other in leaves if other.role in ("other", "prior")):
        learned = {f for f in leaf.frontier if f in flow.learned}
        data = given & flow.ancestors(*(f for f in leaf.frontier if f not in flow.learned))
        decoded = learned & outputs
        for chosen, whole, target in known:
            made = {f for f in learned if f in chosen or chosen & flow.ancestors(f)}
            rest = learned - made
            if data <= target and made and (not rest if leaf.role == "other" else rest <= whole and decoded & whole):
                found.append(leaf)
                break
    return found
