"""Graphs: inputs of whole numbers that say which rows of the batch belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from vaelint.record import ops
from vaelint.record.record import shape

if TYPE_CHECKING:
    from vaelint.anatomy.model import Model

_BY_INDEX = frozenset({"index_select", "getitem", "gather", "index_add", "index_copy", "scatter", "scatter_add", "scatter_reduce"})

_ORDERS = frozenset({"sort", "argsort"})


def rows_are_linked(model: Model) -> bool:
    """Whether rows of the batch are looked up by an input's numbers, as the nodes of a graph are by its edges.

    Such a batch is one graph: a model may be made for its number of nodes.
    """
    flow, record = model.flow, model.record
    edges = {n for n in record.graph.nodes if n.op == "placeholder" and _whole(n)}
    batch = record.sizes.get(model.inputs.batch or "")
    if not edges or batch is None:
        return False
    orders = {n for n in record.graph.nodes if ops.op(n) in _ORDERS}  # of the rows' own numbers: rows are sorted for packing
    below = flow.descendants(*edges, stop=orders) - orders
    for node in below:
        if ops.op(node) not in _BY_INDEX or not node.args or not isinstance(source := node.args[0], fx.Node):
            continue
        indices = [n for n in ops.tensors(node.args[1:]) + ops.tensors(dict(node.kwargs)) if n in below and _whole(n)]
        if indices and source in flow.data and source not in edges and shape(source)[:1] == (batch,) and _of_rows(node, source, below):
            return True
    return False


def _of_rows(node: fx.Node, source: fx.Node, below: set[fx.Node]) -> bool:
    """Whether rows are looked up, and not entries within each row, as the log-probability of each class is."""
    asked = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    if ops.op(node) != "getitem":
        return not isinstance(asked, int) or asked in (0, -len(shape(source)))
    first = asked[0] if isinstance(asked, tuple | list) and asked else asked
    return not isinstance(first, fx.Node) or first in below


def _whole(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype in (torch.int64, torch.int32)
