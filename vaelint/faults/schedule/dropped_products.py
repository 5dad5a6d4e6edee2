"""Weighted KLs that are worked out, logged perhaps, and left out of the loss, which has the KL without any weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaelint.anatomy.loss.term_weights import factors
from vaelint.core.finding import Label
from vaelint.faults.schedule.schedule import UnusedWeight
from vaelint.record import ops
from vaelint.record.record import span

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model


def dropped_products(model: Model) -> list[UnusedWeight]:
    """Weights with a name that multiply a value on the KL's way to the loss, into a product that is not on that way itself.

    Where the loss weighs the KL by anything that has a name, the other product may be a record of a part of that weight.
    """
    found: dict[str, UnusedWeight] = {}
    for fact in model.kls:
        if fact.scaling is None or any(f.origin in ("named", "tensor") for f in fact.factors):
            continue
        mine = {id(leaf) for leaf in fact.term.leaves}
        joined = {n for leaf in model.leaves if id(leaf) not in mine and leaf.role != "constant" for n in leaf.chain}
        for node in dict.fromkeys(n for leaf in fact.term.leaves for n in leaf.chain if n not in joined):
            for product in node.users:
                place = span(product)
                if ops.op(product) not in ops.MUL or product in model.reaching_loss or place is None:
                    continue
                for f in factors((product,), model.source):
                    if f.origin == "named" and f.value not in (None, 1.0, -1.0) and f.text:
                        label = Label(place, "multiplied with the KL here, into nothing that is trained")
                        found.setdefault(f.text, UnusedWeight(f.text, f.value or 0.0, label, "", stored=False, by_name=False))
    return list(found.values())
