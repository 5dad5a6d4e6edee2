"""Lookups of a nearest code: vector quantisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from vaelint.anatomy.gradients import gradients_of
from vaelint.late import dataclass
from vaelint.record import ops
from vaelint.replay.per_model import per_model

if TYPE_CHECKING:
    import torch

    from vaelint.replay.traced import Traced

_LOOKS_UP = frozenset({"embedding", "getitem", "index_select", "gather", "take_along_dim", "matmul", "mm", "bmm", "einsum", "linear"})


@dataclass(frozen=True)
class Codebook:
    """One lookup of the nearest code."""

    index: fx.Node
    code: fx.Node  # the looked up values
    table: tuple[fx.Node, ...]  # the parameters or buffers that hold the codes
    names: frozenset[str]  # those that are trainable


@per_model
def codebooks_of(model: Traced) -> list[Codebook]:
    """Every lookup by the position of a smallest distance to values that layers made of the data."""
    flow, gradients = model.flow, gradients_of(model)
    found: list[Codebook] = []
    for node in model.record.graph.nodes:
        if node.op != "call_function" or node not in flow.data or node not in flow.learned:
            continue
        if not ops.is_position(node):
            continue
        for user in flow.sorted(flow.descendants(node)):
            table = [n for n in ops.value_inputs(user) if n not in flow.data or written_into(n) is not None]
            leaves = [
                n
                for t in table
                for n in ([written_into(t)] if t in flow.data else flow.ancestors(t))
                if n is not None and n.op == "get_attr"
            ]
            if ops.op(user) in _LOOKS_UP and leaves and any(n in flow.data for n in ops.value_inputs(user)):
                found.append(Codebook(node, user, tuple(leaves), frozenset(gradients.names(set(leaves)))))
                break
    return found


def lies_in_columns(table: torch.Tensor, width: int) -> bool:
    """Whether the codes of a table, each of a width, are its columns."""
    return table.dim() == 2 and table.shape[1] != width == table.shape[0]


def written_into(node: fx.Node) -> fx.Node | None:
    """The parameter or buffer of which a value is the state after writing into it (`weight.data.copy_(average)`); None for other values."""
    changed = False
    while (writes := _writes(node)) or ops.op(node) in ("detach", "data", "alias"):
        if not node.args or not isinstance(node.args[0], fx.Node):
            break
        changed, node = changed or writes, node.args[0]
    return node if changed and node.op == "get_attr" else None


def _writes(node: fx.Node) -> bool:
    """Whether it changes its first argument, itself or by way of a view."""
    name = ops.raw_name(node)
    return node.op == "call_function" and (ops.op(node) in ("effect", "setitem") or (name.endswith("_") and not name.endswith("__")))
