"""The names under which a training logs the terms of its loss: of a value that was logged and is, addend for addend, one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx

from vaelint.anatomy.loss.terms import LINEAR_UNARY, Leaf, expand
from vaelint.anatomy.model import Model
from vaelint.record import ops

_WHOLE = ops.ADD | ops.MUL | ops.DIV | LINEAR_UNARY
"""What leaves a term whole on the way to what is logged, and what only weighs it."""


def name_rows(model: Model, rows: Sequence[tuple[dict[str, Any], list[Leaf]]]) -> None:
    """Gives each row, of some addends, the name under which just these were logged. A name of two rows is none of either."""
    known: dict[frozenset[fx.Node], str] = {}
    own = {leaf.node for leaf in model.leaves}
    for name, node in model.record.logged.items():
        leaves = expand(node, model.flow, own)
        if node is not model.record.loss and all(ops.op(link) in _WHOLE for leaf in leaves for link in leaf.chain):
            known.setdefault(frozenset(leaf.node for leaf in leaves), name)
    names = [known.get(frozenset(leaf.node for leaf in leaves), "") for _, leaves in rows]
    for (row, _), name in zip(rows, names, strict=True):
        if name and names.count(name) == 1:
            row["logged"] = name
